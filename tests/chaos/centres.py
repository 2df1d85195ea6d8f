"""`make chaos`, between data centres: masters, servers, the broker and the links to it.

    python -m tests.chaos.centres               all of it
    python -m tests.chaos.centres --share 0.1   a tenth of each fault

Two data centres with two masters each share caps over a real RabbitMQ, each by a wire of its own.
Clients consume all the time, mostly at one of them. When all is healed, every unit has to be in
its place: in each data centre, in the sum, and with the clients.
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
from msgspec import Struct

from compose.broker import Broker
from compose.packages import Unavailable
from tests.support.centres import Centres as Deployments
from tests.support.centres import environment_of, join
from tests.support.deployment import Deployment, deployed, eventually
from tests.support.remote_topology import Wire
from vcap_es.cli.output import print_table

NAMES = ("dc1", "dc2")
TOTAL = 600
BATCH = 5
CLIENTS_PER_CENTRE = 2
PAUSE_SECONDS = 0.01
SETTLE_SECONDS = 120.0
SETTINGS = {
    "VCAP__SERVER__LIMITS__REPORT_MS": "200",
    "VCAP__SERVER__LIMITS__MAX_WAIT_MS": "2000",
}


class Scene(NamedTuple):
    """What can be broken."""

    centres: Deployments
    broker: Broker
    wires: dict[str, Wire]
    rng: random.Random

    def primary(self, name: str) -> str | None:
        """The master of a data centre that leads; None where nobody does."""
        return leader(self.centres[name])


class Fault(NamedTuple):
    """What is broken, how often, and how."""

    name: str
    planned: int
    strike: Callable[[Scene], None]


class Books(Struct):
    """What clients were told of one cap: consumed for sure, and what may have been or not."""

    consumed: int = 0
    unknown: int = 0


def leader(centre: Deployment) -> str | None:
    """The name of the master that leads."""
    for slot, url in enumerate(centre.master_urls):
        try:
            if " leads epoch " in httpx2.get(f"{url}/readyz?verbose", timeout=1.0).text:
                return f"master{slot}"
        except httpx2.HTTPError:
            continue
    return None


# ---- faults


def _kill(scene: Scene, centre: str, node: str) -> None:
    deployment = scene.centres[centre]
    deployment.kill(node)
    time.sleep(scene.rng.uniform(0.0, 0.5))
    deployment.start(node)


def _kill_primary(scene: Scene) -> None:
    centre = scene.rng.choice(NAMES)
    node = eventually(lambda: scene.primary(centre), f"somebody leads {centre}")
    _kill(scene, centre, node)


def _kill_both_primaries(scene: Scene) -> None:
    nodes = {each: eventually(lambda each=each: scene.primary(each), each) for each in NAMES}
    for centre, node in nodes.items():
        scene.centres[centre].kill(node)
    for centre, node in nodes.items():
        scene.centres[centre].start(node)


def _kill_all_masters(scene: Scene) -> None:
    centre = scene.rng.choice(NAMES)
    for slot in (0, 1):
        scene.centres[centre].kill(f"master{slot}")
    for slot in (0, 1):
        scene.centres[centre].start(f"master{slot}")


def _kill_server(scene: Scene) -> None:
    _kill(scene, scene.rng.choice(NAMES), "server1")


def _kill_broker(scene: Scene) -> None:
    scene.broker.kill()
    scene.broker.start()


def _pause_broker(scene: Scene) -> None:
    scene.broker.pause()
    time.sleep(scene.rng.uniform(1.0, 6.0))
    scene.broker.resume()


def _cut(seconds: tuple[float, float]) -> Callable[[Scene], None]:
    def strike(scene: Scene) -> None:
        wire = scene.wires[scene.rng.choice(NAMES)]
        wire.cut()
        time.sleep(scene.rng.uniform(*seconds))
        wire.heal()

    return strike


FAULTS = (
    Fault("kill primary", 50, _kill_primary),
    Fault("kill both primaries", 10, _kill_both_primaries),
    Fault("kill all masters of one", 4, _kill_all_masters),
    Fault("kill server", 8, _kill_server),
    Fault("kill broker", 10, _kill_broker),
    Fault("pause broker", 6, _pause_broker),
    Fault("cut off for seconds", 20, _cut((0.5, 4.0))),
    Fault("cut off for a minute", 2, _cut((60.0, 60.0))),
)


# ---- clients


class Clients:
    """Who consume, at both data centres, mostly at one: of one cap after the other."""

    def __init__(self, centres: Deployments, seed: int) -> None:
        self.books: dict[str, Books] = {}
        self._centres, self._seed = centres, seed
        self._lock, self._over = threading.Lock(), threading.Event()
        self._exhausted: Counter[str] = Counter()
        self._caps: list[str] = []
        self._threads = [
            threading.Thread(target=self._consume, args=(name, key, index))
            for name, key in ((each, centres[each].make_key()) for each in NAMES)
            for index in range(CLIENTS_PER_CENTRE)
        ]

    def start(self) -> None:
        """Define the first cap, and begin."""
        self._next_cap()
        for each in self._threads:
            each.start()

    def stop(self) -> None:
        """No more calls."""
        self._over.set()
        for each in self._threads:
            each.join()

    def _next_cap(self) -> None:
        cap = f"c{len(self._caps)}"
        home = self._centres[NAMES[len(self._caps) % 2]]
        body = {"total": TOTAL, "interval": "month", "placement": "even"}
        for url in home.master_urls:
            try:
                answer = httpx2.put(
                    f"{url}/v1/caps/{cap}",
                    json=body,
                    headers={"Authorization": f"Bearer {home.admin_key}"},
                    timeout=5.0,
                )
            except httpx2.HTTPError:
                continue
            if answer.is_success:
                self.books[cap] = Books()
                self._caps.append(cap)
                return

    def _consume(self, name: str, key: str, index: int) -> None:
        rng = random.Random(f"{self._seed} {name} {index}")
        centre = self._centres[name]
        with httpx2.Client(headers={"Authorization": f"Bearer {key}"}, timeout=5.0) as http:
            while not self._over.wait(PAUSE_SECONDS):
                is_hot = NAMES[int(time.monotonic() / 3) % 2] == name
                if is_hot or rng.random() < 0.1:
                    self._one(http, centre, rng)

    def _one(self, http: httpx2.Client, centre: Deployment, rng: random.Random) -> None:
        with self._lock:
            cap = self._caps[-1]
        amount = rng.choice((1, 1, 2, BATCH))
        url = f"{centre.server_urls[0]}/v1/caps/{cap}/consume"
        try:
            answer = http.post(url, json={"amount": amount})
        except httpx2.HTTPError as error:
            if not isinstance(error, httpx2.ConnectError):
                self._note(cap, unknown=amount)
            return
        if answer.status_code == 200:
            self._note(cap, consumed=amount)
        elif answer.json()["code"] == "capped" and amount == 1:
            self._capped(cap)

    def _note(self, cap: str, *, consumed: int = 0, unknown: int = 0) -> None:
        with self._lock:
            self.books[cap].consumed += consumed
            self.books[cap].unknown += unknown

    def _capped(self, cap: str) -> None:
        """Said so many times, go on with another one; this one is looked at in the end."""
        with self._lock:
            self._exhausted[cap] += 1
            if self._exhausted[cap] >= 20 and cap == self._caps[-1]:
                self._next_cap()


# ---- what must hold


class Findings:
    """What did not hold."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def must(self, is_so: bool, what: str) -> None:
        if not is_so:
            self.found.append(what)


def settle(centres: Deployments, caps: list[str]) -> str:
    """Wait until nothing is on its way; what still is, "" where nothing."""
    deadline, left = time.monotonic() + SETTLE_SECONDS, "nobody was asked"
    while left and time.monotonic() < deadline:
        try:
            left = _on_the_way(centres, caps)
        except httpx2.TransportError as error:  # a master that begins anew, as one that was deposed
            left = f"not known: {error}"
        time.sleep(0.2)
    return left


def _on_the_way(centres: Deployments, caps: list[str]) -> str:
    for cap in caps:
        sums = sums_of(centres, cap)
        if sums["sent"] != sums["received"]:
            return f"{cap}: {sums['sent'] - sums['received']} units"
    for name, each in centres.items():
        found = each.control("GET", "/v1/centres")["centres"]
        for other in found:
            if other["in_transit"]:
                return f"{other['in_transit']} units from {name} are not known to be there"
    return ""


def sums_of(centres: Deployments, cap: str) -> dict[str, int]:
    """The books of a cap in all data centres, summed."""
    sums: Counter[str] = Counter()
    for _, each in centres.items():
        found: dict[str, Any] = each.control("GET", f"/v1/caps/{cap}/balances")["intervals"][0]
        for key in ("total", "received", "sent", "available", "held", "spent", "expired"):
            sums[key] += found[key]
    return dict(sums)


def exhaust(centres: Deployments, cap: str, books: Books) -> None:
    """Everything that is left is consumed, at the first data centre, until it is capped."""
    centre = centres[NAMES[0]]
    headers = {"Authorization": f"Bearer {centre.make_key()}"}
    url = f"{centre.server_urls[0]}/v1/caps/{cap}/consume"
    refusals = 0
    with httpx2.Client(headers=headers, timeout=30.0) as http:
        while refusals < 5:
            answer = http.post(url, json={"amount": 1})
            if answer.status_code == 200:
                books.consumed += 1
                refusals = 0
            else:
                refusals += 1
                time.sleep(0.2)


def check(centres: Deployments, clients: Clients) -> Findings:
    """All books, after everything was healed."""
    findings, caps = Findings(), list(clients.books)
    left = settle(centres, caps)
    findings.must(not left, f"in transit after {SETTLE_SECONDS:.0f} s: {left}")
    for cap, books in clients.books.items():
        findings.must(books.consumed <= TOTAL, f"{cap}: {books.consumed} of {TOTAL} were served")
        exhaust(centres, cap, books)
    settle(centres, caps)
    for cap, books in clients.books.items():
        sums = sums_of(centres, cap)
        places = sums["available"] + sums["held"] + sums["spent"] + sums["expired"]
        findings.must(sums["total"] == TOTAL == places, f"{cap}: {sums}")
        most = books.consumed + books.unknown
        findings.must(
            books.consumed <= sums["spent"] <= most, f"{cap}: {books}, and {sums['spent']} spent"
        )
        stranded = sums["available"] + sums["held"]
        findings.must(stranded == 0, f"{cap}: {stranded} units are stranded")
    for name, each in centres.items():
        findings.must(not each.ended(), f"{name}: {each.ended()} have ended")
        verified = each.vcap("verify", "--log", str(each.log))
        findings.must(verified.returncode == 0, f"{name}: {verified.stdout}{verified.stderr}")
    return findings


# ---- the whole


def main() -> int:
    """Strike, heal, check, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    given = parser.parse_args()
    plan = [each for each in FAULTS for _ in range(ceil(each.planned * given.share))]
    print(f"seed {given.seed}: {len(plan)} faults between two data centres", flush=True)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-centres-") as directory:
        try:
            findings, struck, clients = live(Path(directory), plan, given.seed)
        except Unavailable as reason:
            print(f"SKIPPED: {reason}")
            return 0
    print_table(("fault", "struck"), [[each.name, struck[each.name]] for each in FAULTS])
    consumed = sum(each.consumed for each in clients.books.values())
    unknown = sum(each.unknown for each in clients.books.values())
    print(
        f"\n{len(clients.books)} caps of {TOTAL}: {consumed} units consumed, of {unknown} more the "
        f"answer was lost; {time.monotonic() - begun:.0f} s"
    )
    for each in findings.found:
        print(f"MUST  {each}")
    print("every must is met" if not findings.found else f"{len(findings.found)} did not hold")
    return bool(findings.found)


def live(directory: Path, plan: list[Fault], seed: int) -> tuple[Findings, Counter[str], Clients]:
    """Two data centres that live through the `plan`, in an order from the seed."""
    rng, struck = random.Random(seed), Counter[str]()
    rng.shuffle(plan)
    with ExitStack() as stack:
        broker = Broker(directory / "broker")
        stack.callback(broker.stop)
        broker.start()
        wires = {name: Wire(broker.port) for name in NAMES}
        for each in wires.values():
            stack.callback(each.close)
        centres = Deployments(
            {
                name: stack.enter_context(_deployed(directory, name, wires[name].port))
                for name in NAMES
            }
        )
        join(centres, NAMES)
        clients = Clients(centres, seed)
        clients.start()
        stack.callback(clients.stop)
        scene = Scene(centres, broker, wires, rng)
        for fault in plan:
            fault.strike(scene)
            struck[fault.name] += 1
            time.sleep(rng.uniform(0.0, 1.5))
        clients.stop()
        for name in NAMES:
            eventually(lambda name=name: scene.primary(name), f"somebody leads {name}")
        return check(centres, clients), struck, clients


def _deployed(directory: Path, name: str, port: int) -> Any:
    own = directory / name
    own.mkdir()
    brokers = dict.fromkeys(NAMES, f"amqp://guest@127.0.0.1:{port}/%2F")
    environment = {**SETTINGS, **environment_of(name, NAMES, directory, brokers)}
    return deployed(own, 1, environment, masters=2, witnesses=1)


if __name__ == "__main__":
    sys.exit(main())
