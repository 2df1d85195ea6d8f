"""What is true, whatever any process believes: the events that were acknowledged, once for all.

It grows when a leader commits, and is compared with every claim that any master ever makes.
"""

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from vcap_es.components.consensus.voter import Ballot
from vcap_es.components.decisions.primacy import Config, is_quorum
from vcap_es.events.chain import GENESIS, Stored
from vcap_es.events.codec import decode
from vcap_es.events.facts import Fact, IntervalOpened, IntervalTotalChanged
from vcap_es.projections.states.data_centre import DataCentre, Fold
from vcap_es.sim.environment.disks import LogDisk
from vcap_es.sim.environment.violations import Violation


def equation_holds(state: DataCentre) -> None:
    """Minted and moved here is available + held + net spent + expired + unreported, everywhere.

    When it is over, nothing is available any more.
    """
    for cap, meta in state.metas.items():
        for interval in meta.intervals:
            pool = interval.pool
            places = pool.places.values()
            spent = sum(each.spent - each.refunded for each in places)
            there = pool.available + pool.withheld + pool.held + spent
            there += pool.expired + pool.unreported
            if pool.minted + pool.net != there:
                raise Violation("C1", f"{cap} {interval.number}: {pool}")
            if any(each.held < 0 for each in places):
                raise Violation("C9", f"{cap} {interval.number}: {pool}")
            if pool.ended and pool.available > 0:
                raise Violation("C11", f"{cap} {interval.number} is over, with units: {pool}")


Holding = tuple[str, int, str]
"""A cap, the number of an interval, and the incarnation of a server."""


def _moved(state: DataCentre) -> dict[Holding, int]:
    """The running totals of what was moved to servers."""
    return {
        (cap, interval.number, incarnation): account.out
        for cap, meta in state.metas.items()
        for interval in meta.intervals
        for incarnation, account in interval.pool.places.items()
    }


class DiskCopy(Protocol):
    """A master's disk, whatever its process does; `is_sound` unless a fault has damaged it."""

    name: str
    log: LogDisk
    is_sound: bool

    @property
    def node(self) -> str:
        """Who the disk says that the master is."""
        ...


class Claim(Struct, frozen=True, kw_only=True):
    """What a master takes for true.

    It leads `epoch` by `config`, or follows (None); `is_elected` where that is new. Everything up
    to `committed`, whose event has the link `link`, is committed.
    """

    node: str
    epoch: int
    is_elected: bool
    config: Config | None
    committed: int
    link: bytes


class Oracle:
    """The acknowledged events, the facts in them, and the state that they give.

    `votes` give the ballot that each voter has on its disk, None for who has none. Where operators
    gave up events, `lost` has what was moved to servers until then, as running totals, and
    `twice_max` how much of an interval may be moved a second time.
    """

    def __init__(self) -> None:
        self.entries: list[Stored] = []
        self.facts: list[Fact] = []
        self.fold = Fold()
        self.minted_max: dict[tuple[str, int], int] = {}
        self.leaders: dict[int, str] = {}
        self.copies: list[DiskCopy] = []
        self.votes: list[Callable[[], Ballot | None]] = []
        self.lost: dict[Holding, int] = {}
        self.twice_max: dict[tuple[str, int], int] = {}

    @property
    def end(self) -> int:
        """The position of the last acknowledged event."""
        return len(self.entries)

    def link_at(self, position: int) -> bytes:
        """The link of an acknowledged event."""
        return self.entries[position - 1].link if position else GENESIS

    def decode(self, entry: Stored) -> Fact:
        """The fact of an event, which is decoded once if it is among the acknowledged."""
        if entry.position <= self.end and self.link_at(entry.position) == entry.link:
            return self.facts[entry.position - 1]
        return decode(entry.fact)

    # ---- what masters claim

    def hear(self, copy: DiskCopy, claim: Claim) -> None:
        """A master claims something, with all on its disk that this rests on."""
        if claim.is_elected:
            self._is_led(copy, claim)
        if claim.config is not None:
            if claim.committed > self.end:
                self._check_copies(claim.config, claim.committed, claim.link)
                self._learn(copy, claim.committed)
            self._check_decided()
        if claim.committed > self.end:
            finding = f"{copy.name} takes {claim.committed} for committed; {self.end} is"
            raise Violation("C5", finding)
        if claim.link != self.link_at(claim.committed):
            raise Violation("C5", f"{copy.name} has another event at {claim.committed}, committed")

    def _is_led(self, copy: DiskCopy, claim: Claim) -> None:
        """A master leads: nobody else does in its epoch, and it has all that was acknowledged."""
        first = self.leaders.setdefault(claim.epoch, claim.node)
        if first != claim.node:
            raise Violation("C4", f"{first} and {claim.node} lead epoch {claim.epoch}")
        if not copy.log.has(self.end, self.link_at(self.end)):
            finding = (
                f"{copy.name} leads epoch {claim.epoch} without event {self.end}, acknowledged"
            )
            raise Violation("C3", finding)

    def _check_decided(self) -> None:
        """By what is decided anybody in sync may be elected: all of them have everything."""
        config = self._decided()
        if config is not None:
            self._check_copies(config, self.end, self.link_at(self.end))

    @property
    def ballots(self) -> list[Ballot]:
        """What every voter has on its disk."""
        return [ballot for vote in self.votes if (ballot := vote()) is not None]

    def _decided(self) -> Config | None:
        """The newest configuration that a majority holds, whether or not its leader knows."""
        ballots = self.ballots
        configs = {each.config.stamp: each.config for each in ballots if each.config is not None}
        for stamp in sorted(configs, reverse=True):
            holders = [each.node for each in ballots if each.config and each.config.stamp == stamp]
            if is_quorum(configs[stamp], holders):
                return configs[stamp]
        return None

    def _check_copies(self, config: Config, position: int, link: bytes) -> None:
        """Everybody in sync has it, durably."""
        for copy in self.copies:
            needs_it = copy.node in config.isr and copy.is_sound
            if needs_it and not copy.log.has(position, link):
                finding = f"{position} is acknowledged and not durable at {copy.name}, in sync"
                raise Violation("C3", finding)

    def _learn(self, copy: DiskCopy, position: int) -> None:
        news = copy.log.entries[self.end : position]
        for entry in news:
            if entry.position != self.end + 1:
                raise Violation("C5", f"{copy.name} has {entry.position} behind {self.end}")
            self._take(entry)
        if news:
            equation_holds(self.fold.state)

    def _take(self, entry: Stored) -> None:
        fact = decode(entry.fact)
        self.entries.append(entry)
        self.facts.append(fact)
        self.fold.evolve(fact)
        if isinstance(fact, IntervalOpened | IntervalTotalChanged):
            key = (fact.cap, fact.number)
            self.minted_max[key] = max(self.minted_max.get(key, 0), fact.total)

    def begin_with(self, entries: list[Stored]) -> None:
        """All of these are acknowledged: they were before what begins now."""
        assert not self.entries, "the truth has begun already"
        for entry in entries:
            self._take(entry)
        equation_holds(self.fold.state)

    def give_up(self, copy: DiskCopy) -> None:
        """Operators let this master lead, without what it has not of the acknowledged events."""
        known = 0
        while known < self.end and copy.log.has(known + 1, self.link_at(known + 1)):
            known += 1
        self.lost |= _moved(self.fold.state)
        self.entries, self.facts = self.entries[:known], self.facts[:known]
        self.fold = Fold()
        for fact in self.facts:
            self.fold.evolve(fact)
        left = _moved(self.fold.state)
        for (cap, number, incarnation), moved in self.lost.items():
            more = max(0, moved - left.get((cap, number, incarnation), 0))
            self.twice_max[cap, number] = self.twice_max.get((cap, number), 0) + more

    def is_cut(self, copy: DiskCopy, after: int) -> None:
        """A master sets its log aside behind a position: nothing of that was acknowledged."""
        if not copy.is_sound or after >= min(self.end, len(copy.log.entries)):
            return
        if copy.log.link_at(after + 1) == self.link_at(after + 1):
            raise Violation("C12", f"{copy.name} sets {after + 1} aside, which was acknowledged")
