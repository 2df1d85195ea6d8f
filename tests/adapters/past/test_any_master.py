"""The past is told by any master, as far as it knows what is committed, also while nobody leads."""

from pathlib import Path

import httpx2

from tests.support.deployment import PATIENT, Deployment, deployed, eventually
from tests.support.people import Caller, define, settled, taken

TELLS_POSITION = "vcap-position"


def _asked(dc: Deployment, slot: int, path: str) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {dc.admin_key}"}
    return httpx2.get(f"{dc.master_urls[slot]}{path}", headers=headers, timeout=30.0)


def test_any_master_tells_what_is_past(tmp_path: Path) -> None:
    """The secondary tells the same, says how far its copy goes, and goes on when it is alone."""
    with deployed(tmp_path, 1, PATIENT, masters=2, witnesses=1) as dc:
        # Given a cap with a past on both masters
        define(dc, "c", 100)
        caller = Caller(dc, dc.make_key())
        id_ = taken(caller.consume(0, "c", 5))["id"]
        settled(dc, "c", spent=5)
        caller.close()
        end = dc.control("GET", "/v1/log?limit=1")["head"]
        eventually(
            lambda: int(_asked(dc, 1, "/v1/log/1").headers[TELLS_POSITION]) >= end,
            "the secondary knows that all of it is committed",
        )
        paths = [
            f"/v1/caps/c/balances?position={end}",
            f"/v1/caps/c/explain?id={id_}",
            *(f"/v1/caps/c/{each}" for each in ("statement?interval=0", "intervals", "history")),
            f"/v1/log/{end}",
        ]
        # When both are asked
        told = {path: _asked(dc, 0, path) for path in paths}
        # Then both tell the same, and the one that does not lead says so
        for path in paths:
            assert told[path].status_code == 200, told[path].text
            assert "vcap-stale" not in told[path].headers
            copied = _asked(dc, 1, path)
            assert (copied.content, copied.headers["vcap-stale"]) == (told[path].content, "1")
        # And when the primary and every voter but the secondary are gone, it tells that yet
        dc.kill("server1")
        dc.kill("master0")
        for path in paths:
            assert _asked(dc, 1, path).content == told[path].content
