"""`vcap primacy`: who leads, a switchover, and the promotion that needs two operators."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.deployment import ROOT, Deployment, deployed, eventually


def status(dc: Deployment, url: str | None = None) -> dict[str, Any]:
    """What `vcap primacy status` tells."""
    where = ["--url", url] if url else []
    done = dc.vcap("primacy", "status", "--json", *where)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def as_operator(key: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line with this key."""
    return subprocess.run(
        [sys.executable, "-m", "vcap_es", *arguments],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "VCAP_KEY": key},
    )


def test_a_switchover_lets_the_other_master_lead(tmp_path: Path) -> None:
    """Both are shown before and after; what was acknowledged is there, and more can be."""
    with deployed(tmp_path, 1, masters=2, witnesses=1) as dc:
        dc.control("PUT", "/v1/caps/a", {"total": 10})
        before = eventually(lambda: _voting(status(dc)), "the witness votes")
        assert (before["name"], before["role"], len(before["isr"])) == ("m0", "primary", 2)
        table = dc.vcap("primacy", "status").stdout
        assert "m0" in table
        assert "m1" in table
        # When
        done = dc.vcap("primacy", "switchover", "--wait")
        # Then
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"m1 leads, at {dc.master_urls[1]}\n"
        after = status(dc)
        assert (after["name"], after["role"], after["switchovers"]) == ("m1", "primary", 1)
        assert after["epoch"] > before["epoch"]
        dc.control("PUT", "/v1/caps/b", {"total": 10})
        assert {each["id"] for each in dc.control("GET", "/v1/caps")["caps"]} == {"a", "b"}


def _voting(view: dict[str, Any]) -> dict[str, Any] | None:
    return view if len(view["voters"]) == 3 else None


def test_a_promotion_by_force_needs_two_operators(tmp_path: Path) -> None:
    """Who lacks something does not lead by itself; one approval, also twice, changes nothing."""
    with deployed(tmp_path, 1, masters=2, witnesses=1) as dc:
        eventually(lambda: _voting(status(dc)), "the witness votes")
        first, second = dc.make_key("operator"), dc.make_key("operator")
        url = dc.master_urls[1]
        refused = as_operator(first, "primacy", "force-promote", "--accept-loss", "--url", url)
        assert refused.returncode != 0 or "nothing has changed" in refused.stdout
        # Given that the primary went on alone, and is gone with what only it had
        dc.kill("master1")
        eventually(lambda: len(status(dc, dc.master_urls[0])["isr"]) == 1, "the primary is alone")
        dc.control("PUT", "/v1/caps/lost", {"total": 10})
        dc.kill("master0")
        dc.start_master(1, wait=False)
        eventually(lambda: _answers(dc, url), "the other one answers")
        force = ("primacy", "force-promote", "--url", url)
        # When nobody says that loss is accepted, or one operator says it twice
        assert as_operator(first, *force).returncode == 2
        for _ in range(2):
            once = as_operator(first, *force, "--accept-loss")
            assert once.returncode == 0, once.stderr
            assert "nothing has changed" in once.stdout
            assert status(dc, url)["role"] == "secondary"
        # When another one says it too
        twice = as_operator(second, *force, "--accept-loss")
        # Then
        assert twice.returncode == 0, twice.stderr
        view = status(dc, url)
        assert (view["role"], view["name"], len(view["forced"])) == ("primary", "m1", 1)
        assert len(set(view["forced"][0]["approved_by"])) == 2
        caps = as_operator(first, "cap", "list", "--url", url)
        assert "lost" not in caps.stdout


def _answers(dc: Deployment, url: str) -> bool:
    return dc.vcap("primacy", "status", "--url", url).returncode == 0
