"""Lives of a data centre: random but valid sequences of facts, made by a small model of its own.

The model keeps plain dictionaries and shares no code with what it tests.
"""

from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st

from vcap_es.events.envelope import Draft, Recorded
from vcap_es.events.facts import (
    AmountWithheld,
    ApiKeyCreated,
    ApiKeyRevoked,
    ClusterCreated,
    ConfigDecided,
    Definition,
    DivergenceTruncated,
    EpochStarted,
    Fact,
    HoldingRecovered,
    IntervalClosed,
    IntervalEnded,
    IntervalOpened,
    IntervalTotalChanged,
    LogRestored,
    MetaChanged,
    MetaDefined,
    MetaPaused,
    MetaResumed,
    MetaRetired,
    NodeAddressChanged,
    PromotionForced,
    Returned,
    SecondarySpawned,
    Spend,
    SpendReported,
    SwitchoverStarted,
    TemplateDefined,
    TemplateRetired,
    ToppedUp,
    TopupRecovered,
    Version,
    WithheldReleased,
)

NOON = 1_767_268_800_000_000
SECOND = 1_000_000
GENERATION_NUMBERS = 1_000_000_000
"""Each generation of a restored log numbers its intervals from as many on as the one before."""

DAY = 86_400 * SECOND
CAPS = ("campaign", "key.1", "user:7")
SERVERS = ("a1", "b2", "c3")

Server = dict[str, int]
Open = dict[str, Any]


class Life:
    """Applies random steps that are valid in the state so far, and keeps the facts."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self._epoch = self._config = 0
        self._is_forced = False
        self._cluster, self._generation = "", 0
        self._caps: dict[str, dict[str, Any]] = {}

    def step(self, kind: int, first: int, second: int, amount: int) -> None:
        """Take the step of that kind, if there is something that it can be done to."""
        getattr(self, _STEPS[kind % len(_STEPS)])(first, second, amount)

    def define(self, first: int, second: int, amount: int) -> None:
        name = CAPS[first % len(CAPS)]
        cap = self._caps.setdefault(
            name,
            {
                "version": 0,
                "next": self._generation * GENERATION_NUMBERS,
                "until": NOON,
                "open": {},
                "retired": None,
            },
        )
        cap["version"] += 1
        version, definition = Version(0, cap["version"]), Definition(total=amount * 2)
        if cap["retired"] is False:
            self.facts.append(MetaChanged(cap=name, version=version, definition=definition))
        else:
            self.facts.append(MetaDefined(cap=name, version=version, definition=definition))
        cap["retired"] = False

    def turn(self, first: int, second: int, amount: int) -> None:
        name, cap = self._cap(first)
        if cap is None or cap["retired"]:
            return
        cap["version"] += 1
        version = Version(0, cap["version"])
        if second % 3 == 0:
            cap["retired"] = True
            self.facts.append(MetaRetired(cap=name, version=version, ended_before=cap["next"]))
        else:
            kind = MetaPaused if second % 3 == 1 else MetaResumed
            self.facts.append(kind(cap=name, version=version))

    def open(self, first: int, second: int, amount: int) -> None:
        name, cap = self._cap(first)
        if cap is None or cap["retired"]:
            return
        number, start = cap["next"] + (second % 10 == 0), cap["until"]
        cap["next"], cap["until"] = number + 1, start + DAY
        withheld = self._generation > 0 and second % 2 == 0
        cap["open"][number] = {
            "total": amount,
            "ended": False,
            "servers": {},
            "old": amount if withheld else None,
        }
        self.facts.append(
            IntervalOpened(
                cap=name,
                number=number,
                start=start,
                end=start + DAY,
                total=amount,
                version=Version(0, cap["version"]),
                timezone="UTC",
                tzdata="2026a",
                withheld=withheld,
            )
        )

    def change_total(self, first: int, second: int, amount: int) -> None:
        name, number, interval = self._interval(first, second)
        if interval is None or interval["ended"]:
            return
        if interval["old"] is not None:
            interval["old"] += amount - interval["total"]
        interval["total"] = amount
        version = Version(0, self._caps[name]["version"])
        self.facts.append(
            IntervalTotalChanged(cap=name, number=number, total=amount, version=version)
        )

    def top_up(self, first: int, second: int, amount: int) -> None:
        name, number, interval = self._interval(first, second)
        if interval is None or interval["ended"]:
            return
        left = _left(interval)
        more = min(left, amount)
        if more > 0:
            incarnation = SERVERS[second % len(SERVERS)]
            server = interval["servers"].setdefault(incarnation, _fresh())
            server["out"] += more
            self.facts.append(
                ToppedUp(cap=name, number=number, incarnation=incarnation, moved=server["out"])
            )

    def recover(self, first: int, second: int, amount: int) -> None:
        """A server had more than a log knows of, which has lost its end."""
        name, number, interval = self._interval(first, second)
        if interval is None or not self._is_forced:
            return
        left = _left(interval)
        incarnation = SERVERS[second % len(SERVERS)]
        server = interval["servers"].setdefault(incarnation, _fresh())
        if not server["final"]:
            server["out"] += max(0, min(left, amount))
            moved = server["out"]
            self.facts.append(
                TopupRecovered(cap=name, number=number, incarnation=incarnation, moved=moved)
            )

    def restore(self, first: int, second: int, amount: int) -> None:
        """The log goes on from here as another generation."""
        if not self._cluster:
            return
        self._generation += 1
        was, self._cluster = self._cluster, f"{'c1' * 16}+{self._generation}.0000000{first % 10}"
        self.facts.append(
            LogRestored(
                cluster=self._cluster,
                was=was,
                master="m0-r",
                position=len(self.facts),
                restored_at=NOON - 1,
            )
        )
        numbers = self._generation * GENERATION_NUMBERS
        for name, cap in self._caps.items():
            cap["next"] = max(cap["next"], numbers)
            for number, interval in cap["open"].items():
                left = min(0, _left(interval)) if interval["ended"] else _left(interval)
                interval["old"] = left + max(0, interval["old"] or 0)
                self.facts.append(AmountWithheld(cap=name, number=number, amount=interval["old"]))

    def readmit(self, first: int, second: int, amount: int) -> None:
        """A server of the generation before tells what it had from that, and gave back to it."""
        name, number, interval = self._interval(first, second)
        if interval is None or not self._generation:
            return
        incarnation = SERVERS[second % len(SERVERS)]
        server = interval["servers"].setdefault(incarnation, _fresh())
        if server["final"]:
            return
        moved = amount % 40
        server["out"] += moved
        spent = min(_held(server), second % 20)
        server["spent"] += spent
        returned = min(_held(server), first % 30)
        server["back"] += returned
        if interval["old"] is None:
            interval["old"] = returned or None
        else:
            interval["old"] += returned - moved
        self.facts.append(
            HoldingRecovered(
                cap=name,
                number=number,
                incarnation=incarnation,
                moved=server["out"],
                returned=server["back"],
                spent=server["spent"],
                refunded=server["refunded"],
            )
        )

    def release(self, first: int, second: int, amount: int) -> None:
        """Two operators accept a loss."""
        name, number, interval = self._interval(first, second)
        if interval is None or interval["ended"] or (interval["old"] or 0) <= 0:
            return
        self.facts.append(
            WithheldReleased(
                cap=name, number=number, amount=interval["old"], approved_by=["ada", "bob"]
            )
        )
        interval["old"] = None

    def give_back(self, first: int, second: int, amount: int) -> None:
        name, number, interval = self._interval(first, second)
        if interval is None or not interval["servers"]:
            return
        incarnation = sorted(interval["servers"])[second % len(interval["servers"])]
        server = interval["servers"][incarnation]
        more = min(_held(server), amount)
        if more > 0 and not server["final"]:
            server["back"] += more
            self.facts.append(
                Returned(cap=name, number=number, incarnation=incarnation, returned=server["back"])
            )

    def report(self, first: int, second: int, amount: int) -> None:
        incarnation = SERVERS[first % len(SERVERS)]
        entries = []
        for name, cap in self._caps.items():
            for number, interval in cap["open"].items():
                server = interval["servers"].get(incarnation)
                if server is not None and (number + second) % 2 == 0:
                    entries.append(self._spend(name, number, server, second, amount, interval))
        if entries:
            self.facts.append(SpendReported(incarnation=incarnation, entries=entries))

    def _spend(
        self, name: str, number: int, server: Server, back: int, amount: int, interval: Open
    ) -> Spend:
        server["refused"] += back % 4
        if not server["final"]:
            refund = min(back % 7, server["spent"] - server["refunded"])
            server["refunded"] += refund
            server["spent"] += min(_held(server), amount)
            server["final"] = int(interval["ended"] and _held(server) == 0)
        return Spend(
            cap=name,
            number=number,
            spent=server["spent"],
            refunded=server["refunded"],
            refused=server["refused"],
            final=bool(server["final"]),
        )

    def end(self, first: int, second: int, amount: int) -> None:
        name, number, interval = self._interval(first, second)
        if interval is not None and not interval["ended"]:
            interval["ended"] = True
            self.facts.append(IntervalEnded(cap=name, number=number))

    def close(self, first: int, second: int, amount: int) -> None:
        name, number, interval = self._interval(first, second)
        if interval is not None and interval["ended"]:
            held = sum(_held(server) for server in interval["servers"].values())
            del self._caps[name]["open"][number]
            self.facts.append(IntervalClosed(cap=name, number=number, unreported=held))

    def repeat(self, first: int, second: int, amount: int) -> None:
        """An earlier running total comes again, of an interval that is still open."""
        again = [fact for fact in self.facts if isinstance(fact, ToppedUp | Returned)]
        again = [fact for fact in again if fact.number in self._caps[fact.cap]["open"]]
        if again:
            found = again[first % len(again)]
            newest = [f for f in again if type(f) is type(found) and _slice(f) == _slice(found)]
            self.facts.append(newest[-1])

    def found(self) -> None:
        self._cluster = "c1" * 16
        self.facts.append(ClusterCreated(cluster="c1" * 16, dc="north", master="m0-a"))

    def lead(self, first: int, second: int, amount: int) -> None:
        self._epoch += 1 + second % 2
        self._config = 0
        self.facts.append(EpochStarted(epoch=self._epoch, leader=f"master {first % 2}"))

    def primacy(self, first: int, second: int, amount: int) -> None:
        node = f"m{first % 2}-{second % 2}"
        self._config += 1
        choices: list[Fact] = [
            ConfigDecided(epoch=self._epoch, version=self._config, isr=[node], voters=[node]),
            SecondarySpawned(slot=first % 2, spawn=f"{second}", host="host"),
            SwitchoverStarted(to=node),
            DivergenceTruncated(node=node, after=first, count=second + 1, link=bytes(32)),
            PromotionForced(leader=node, approved_by=["a", "b"], isr=[], committed=second),
        ]
        self.facts.append(choices[amount % len(choices)])
        self._is_forced |= isinstance(self.facts[-1], PromotionForced)

    def address(self, first: int, second: int, amount: int) -> None:
        address, name = f"http://10.0.0.{amount}:7101", SERVERS[first % len(SERVERS)]
        self.facts.append(
            NodeAddressChanged(
                node=name, name=name.upper(), role="server", address=address, stamp=second % 9
            )
        )

    def access(self, first: int, second: int, amount: int) -> None:
        key, match = f"key {first % 2}", f"user:{second % 2}*"
        key_created = ApiKeyCreated(
            key=key, digest=bytes(32), role="client", scopes=["*"], expires_at=None
        )
        choices: list[Fact] = [
            key_created,
            ApiKeyRevoked(key=key),
            TemplateDefined(match=match, definition=Definition(total=amount)),
            TemplateRetired(match=match),
        ]
        self.facts.append(choices[amount % len(choices)])

    def _cap(self, first: int) -> tuple[str, dict[str, Any] | None]:
        name = CAPS[first % len(CAPS)]
        return name, self._caps.get(name)

    def _interval(self, first: int, second: int) -> tuple[str, int, Open | None]:
        name, cap = self._cap(first)
        if cap is None or not cap["open"]:
            return name, 0, None
        number = sorted(cap["open"])[second % len(cap["open"])]
        return name, number, cap["open"][number]


def _fresh() -> Server:
    return {"out": 0, "back": 0, "spent": 0, "refunded": 0, "refused": 0, "final": 0}


def _left(interval: Open) -> int:
    """What the pool may grant, or owes; from the end on, what is there is expired."""
    away = sum(each["out"] - each["back"] for each in interval["servers"].values())
    return int(interval["total"] - away - max(0, interval["old"] or 0))


def _held(server: Server) -> int:
    return server["out"] - server["back"] - server["spent"] + server["refunded"]


def _slice(fact: ToppedUp | Returned) -> tuple[str, int, str]:
    return fact.cap, fact.number, fact.incarnation


_STEPS = (
    *["define", "open", "open", "turn", "change_total", "end", "close", "repeat", "lead"],
    *[
        "primacy",
        "address",
        "access",
        "give_back",
        "give_back",
        "report",
        "report",
        "report",
        "report",
    ],
    *["top_up", "top_up", "top_up", "top_up", "recover"],
    *["restore", "readmit", "readmit", "release"],
)


@st.composite
def lives(draw: st.DrawFn, longest: int = 80) -> list[Fact]:
    """The facts of a random life, always with a cap and an interval to begin with."""
    life = Life()
    if draw(st.booleans()):
        life.found()
    life.define(0, 0, 50)
    life.open(0, 1, 100)
    step = st.tuples(*[st.integers(0, 99)] * 4)
    for each in draw(st.lists(step, max_size=longest)):
        life.step(*each)
    return life.facts


def recorded(facts: Iterable[Fact], *, after: int = 0) -> list[Recorded]:
    """The facts as events a second apart, at positions from `after` + 1 on, without links."""
    epoch = 0
    events = []
    for position, fact in enumerate(facts, after + 1):
        epoch = fact.epoch if isinstance(fact, EpochStarted) else epoch
        events.append(
            Recorded(
                position=position,
                epoch=epoch,
                event_id=position.to_bytes(16, "big"),
                recorded_at=NOON + position * SECOND,
                dc="north",
                actor="operator:ada",
                correlation="",
                fact=fact,
                link=bytes(32),
            )
        )
    return events


def drafts(facts: Iterable[Fact]) -> list[Draft]:
    """The facts as drafts a second apart, to be appended to a log."""
    return [
        Draft(
            event_id=event.event_id,
            recorded_at=event.recorded_at,
            dc=event.dc,
            actor=event.actor,
            correlation=event.correlation,
            fact=event.fact,
        )
        for event in recorded(facts)
    ]
