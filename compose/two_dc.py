"""Two data centres on this machine, a broker between them, and traffic that empties one of them.

`make up-two-dc` runs this until Ctrl-C: it finds or fetches RabbitMQ, starts it at ports of its
own, starts two data centres with `vcap up`, and lets all traffic of one shared cap fall on the
second one. `python -m compose.two_dc DIRECTORY PORT` keeps it elsewhere, at other ports.
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2

from compose.broker import Broker
from compose.packages import Unavailable
from vcap_es.secret_files import ensure_node_secret

DATA = Path("vcap-data/two-dc")
NAMES = ("dc1", "dc2")
PORT = 7200
"""Each data centre has ten ports from here on, and then the broker."""
CAP, TOTAL = "demo:shared", 2_000
DEFINITION = {"total": TOTAL, "interval": "hour", "placement": "even", "group": "demo"}
START_SECONDS = 90.0
STOP_SECONDS = 40.0
POLL_SECONDS = 0.2
PER_SECOND = 100
CONSUMED, CAPPED = 200, 429
"""Any other answer says that it is not known yet, as while a transfer is on its way."""


class Stopped(Exception):
    """Somebody wants it to end."""


class Centre:
    """One data centre, started with `vcap up`."""

    def __init__(self, name: str, data: Path, port: int) -> None:
        self.name, self.data, self.port = name, data / name, port
        self.master = f"http://127.0.0.1:{self.port}"
        self.servers = [f"http://127.0.0.1:{self.port + 1 + index}" for index in range(2)]

    def start(self, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
        """Start it; it is ready when `key` is there and its master answers."""
        command = [sys.executable, "-m", "vcap_es", "up"]
        command += ["--data", str(self.data), "--port", str(self.port)]
        self.data.mkdir(parents=True, exist_ok=True)
        with (self.data / "up.log").open("ab") as log:
            return subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **environment},
            )

    def call(self, method: str, path: str, body: object = None) -> Any:
        """A call of the control plane, as its administrator."""
        key = (self.data / "master0" / "admin.key").read_text().strip()
        headers = {"Authorization": f"Bearer {key}"}
        answer = httpx2.request(
            method, f"{self.master}{path}", json=body, headers=headers, timeout=10.0
        )
        answer.raise_for_status()
        return answer.json()

    def current(self) -> dict[str, Any] | None:
        """The interval of the shared cap that is open now, as it is known here."""
        caps = self.call("GET", "/v1/caps")["caps"]
        return next((each["current"] for each in caps if each["id"] == CAP), None)

    def is_up(self) -> bool:
        """Whether everything of it is ready."""
        try:
            return all(
                httpx2.get(f"{url}/readyz", timeout=1.0).is_success
                for url in (self.master, *self.servers)
            )
        except httpx2.TransportError:
            return False


def environment_of(name: str, data: Path, broker: Broker) -> dict[str, str]:
    """What the nodes of a data centre must know of the other one."""
    (other,) = {*NAMES} - {name}
    secret = data / "dc1-dc2.secret"
    ensure_node_secret(secret)
    return {
        "VCAP__DATA_CENTRE": name,
        "VCAP__REMOTE__BROKER": broker.url,
        f"VCAP__REMOTE__CENTRES__{other.upper()}__SECRET_FILE": str(secret.absolute()),
    }


@contextmanager
def running(centre: Centre, environment: dict[str, str]) -> Iterator[None]:
    """The data centre runs meanwhile."""
    process = centre.start(environment)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not centre.is_up():
            if process.poll() is not None or time.monotonic() > deadline:
                told = (centre.data / "up.log").read_text(errors="replace").strip()
                raise Unavailable(f"{centre.name} does not start: {told.splitlines()[-1:]}")
            time.sleep(POLL_SECONDS)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def two_centres(data: Path, port: int) -> Iterator[list[Centre]]:
    """A broker and two data centres that share what is placed evenly."""
    with ExitStack() as stack:
        broker = Broker(data / "broker", ports=[*range(port + 20, port + 24)])
        stack.callback(broker.stop)
        broker.start()
        print(f"RabbitMQ   {broker.url}  (MQTT at {broker.mqtt_port})", flush=True)
        centres = [Centre(name, data, port + 10 * index) for index, name in enumerate(NAMES)]
        for each in centres:
            stack.enter_context(running(each, environment_of(each.name, data, broker)))
            print(f"{each.name}        {each.master}  servers {' '.join(each.servers)}", flush=True)
        for each in centres:
            centres[0].call("PUT", f"/v1/centres/{each.name}", {})
        yield centres


def show(centres: list[Centre]) -> None:
    """Let clients of the second data centre have all of a cap that both share; tell how it goes."""
    home, hot = centres
    home.call("PUT", f"/v1/caps/{CAP}", DEFINITION)
    while hot.current() is None:
        time.sleep(POLL_SECONDS)
    print(
        f"\n{CAP}: {TOTAL} an hour, half for each; all clients are at {hot.name}.\n"
        f"admin keys: {' '.join(str(each.data / 'master0' / 'admin.key') for each in centres)}\n"
        f"\n{'consumed':>8} {'capped':>8} {'later':>7}   {'at dc1':>7} {'at dc2':>7}   phase",
        flush=True,
    )
    key = (hot.data / "client.key").read_text().strip()
    url = f"{hot.servers[0]}/v1/caps/{CAP}/consume"
    told: Counter[int] = Counter()
    with httpx2.Client(headers={"Authorization": f"Bearer {key}"}, timeout=5.0) as client:
        while not told[CAPPED]:
            began = time.monotonic()
            told.update(client.post(url, json={"amount": 1}).status_code for _ in range(PER_SECOND))
            _tell(centres, told)
            time.sleep(max(0.0, began + 1.0 - time.monotonic()))
    print(f"\n{told[CONSUMED]} of {TOTAL} were consumed. Ctrl-C ends it.", flush=True)


def _tell(centres: list[Centre], told: Counter[int]) -> None:
    found = [each.current() for each in centres]
    if None in found:
        return
    left = [each["available"] + each["held"] for each in found if each is not None]
    phase = found[0]["phase"] if found[0] is not None else ""
    later = told.total() - told[CONSUMED] - told[CAPPED]
    print(
        f"{told[CONSUMED]:>8} {told[CAPPED]:>8} {later:>7}   {left[0]:>7} {left[1]:>7}   {phase}",
        flush=True,
    )


def main(data: Path, port: int) -> int:
    """Run until SIGINT or SIGTERM."""

    def stop(*_: object) -> None:
        raise Stopped

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, stop)
    try:
        with two_centres(data, port) as centres:
            show(centres)
            while True:  # a signal that comes just before a wait without an end would be missed
                time.sleep(POLL_SECONDS)
    except Stopped:
        print("\nended", flush=True)
    except Unavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    words = sys.argv[1:]
    sys.exit(main(Path(words[0]) if words else DATA, int(words[1]) if words[1:] else PORT))
