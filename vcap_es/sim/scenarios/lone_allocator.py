"""One allocator alone: its servers are made by hand, and what it records becomes true at once."""

from vcap_es.components.local_handler.allocator import Allocator
from vcap_es.components.local_handler.demands import Left
from vcap_es.components.messages.server import Grant, Holding
from vcap_es.events.facts import (
    Fact,
    HoldingRecovered,
    IntervalOpened,
    Returned,
    SpendReported,
    ToppedUp,
    TopupRecovered,
    Version,
)
from vcap_es.projections.states import volumecap
from vcap_es.projections.states.interval import opened
from vcap_es.sim.environment.site import NOON


class LoneAllocator:
    """The host of one allocator: facts become true at once, and everybody is connected."""

    epoch = 3

    def __init__(self, total: int, servers: str) -> None:
        self.interval = opened(
            IntervalOpened(
                cap="c",
                number=0,
                start=NOON,
                end=NOON + 60_000_000,
                total=total,
                version=Version(0, 1),
                timezone="UTC",
                tzdata="",
            )
        )
        self.allocator = Allocator("c", self.interval, False, self)
        self.is_forced = False
        self.connected = set(servers)
        self.readmitted: set[str] = set()
        self.told: list[str] = []
        self.order = 0

    @property
    def may_lack_topups(self) -> bool:
        """See `Office`."""
        return self.is_forced

    def is_from_before(self, incarnation: str, _allocator: Allocator) -> bool:
        """See `Office`."""
        return incarnation in self.readmitted

    def doubt_log(self, why: str) -> None:
        """See `Office`."""
        raise AssertionError(why)

    def may_come(self, _allocator: Allocator, _missing: int, _now: int) -> bool:
        """See `Office`."""
        return False

    def may_be_freed(self, _allocator: Allocator) -> bool:
        """See `Office`."""
        return False

    def left_elsewhere(self, _allocator: Allocator) -> Left:
        """See `Office`."""
        return Left()

    def is_scarce(self, _allocator: Allocator) -> bool:
        """See `Office`."""
        return False

    def reserved(self, _allocator: Allocator, _now: int) -> int:
        """See `Office`."""
        return 0

    def record(self, fact: Fact) -> None:
        """See `Office`."""
        assert isinstance(fact, ToppedUp | TopupRecovered | HoldingRecovered | Returned)
        volumecap.evolve_moved(self.interval.pool, fact)

    def tell(self, incarnation: str, allocator: Allocator) -> None:
        """See `Office`."""
        assert allocator is self.allocator
        self.told.append(incarnation)

    def is_connected(self, incarnation: str) -> bool:
        """See `Office`."""
        return incarnation in self.connected

    def report(self, who: str, *, now: int = NOON, order: int = 0, **fields: object) -> Grant:
        """A report, all that follows, and what the server is then told."""
        self.order += 1
        account = self.interval.pool.peek(who)
        known = {
            "received": account.out,
            "returned": account.back,
            "spent": account.spent,
            "refunded": account.refunded,
            "refused": 0,
            "need": 0,
            "want": 0,
            "final": False,
            "answered": (0, 0),
        }
        holding = Holding("c", 0, *{**known, **fields}.values())  # type: ignore[arg-type]  # in the order of the struct
        news = self.allocator.hear(who, ord(who), (1, order or self.order), holding)
        for entry in SpendReported(incarnation=who, entries=news).entries:
            volumecap.evolve_spend(self.interval.pool, who, entry)
        self.allocator.take_back(who, holding)
        self.allocator.serve(now)
        return self.allocator.grant(who)
