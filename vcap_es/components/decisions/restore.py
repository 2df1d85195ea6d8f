"""What follows after a log was restored from a backup, and what operators decide then. Pure."""

from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct

from vcap_es.components.decisions.denied import Denied
from vcap_es.components.decisions.interval import may_be_served, total_in_force
from vcap_es.events.clusters import is_restored_from
from vcap_es.events.facts import (
    AmountWithheld,
    CentreReadmitted,
    Fact,
    HomeMoved,
    IntervalEnded,
    IntervalLearned,
    IntervalRecovered,
    IntervalTotalChanged,
    LogRestored,
    ServerReadmitted,
    Version,
    WithheldReleased,
    WithholdingEnded,
)
from vcap_es.events.periods import Window, window_at
from vcap_es.projections.states.data_centre import DataCentre
from vcap_es.projections.states.interval import Interval
from vcap_es.projections.states.meta import Meta


def restored(
    state: DataCentre, *, cluster: str, master: str, position: int, now: int, lacks: int | None
) -> list[Fact]:
    """The facts with which the log that gives `state` goes on as the generation `cluster`.

    `master` is its only voter, `position` that of the last event so far. Everything that can still
    be granted is withheld.
    """
    begun = LogRestored(
        cluster=cluster,
        was=state.primacy.cluster,
        master=master,
        position=position,
        restored_at=now,
        lacks=lacks,
    )
    return [
        begun,
        *(
            AmountWithheld(
                cap=meta.cap, number=each.number, amount=each.pool.available + each.pool.withheld
            )
            for meta in state.metas.values()
            for each in meta.intervals
        ),
    ]


SKEW_US = 60_000_000
"""Microseconds by which the clocks of two data centres may differ, where an opening is dated."""


class ReadmitServer(Struct, frozen=True, kw_only=True, gc=False):
    """Let a server of the generation `was` belong to this one, with what it holds."""

    incarnation: str
    name: str
    was: str


class ReadmitCentre(Struct, frozen=True, kw_only=True, gc=False):
    """Let a data centre that was known by its log `was` take part again, by its log `cluster`.

    Either it was restored from a backup of that, or this data centre was, and the two are the same.
    """

    centre: str
    cluster: str
    was: str


class AcceptLoss(Struct, frozen=True, kw_only=True, gc=False):
    """Release what is withheld of `cap`; None: of all caps, and withhold nothing more.

    With `if_told`, nothing is released of what anybody that is known may have been given, and it
    goes on to be withheld: `told` are the caps of which all data centres have told, with when the
    last of those was restored. `approved_by` are the operators who said so.
    """

    cap: str | None = None
    if_told: bool = False
    told: tuple[tuple[str, int], ...] = ()
    approved_by: tuple[str, ...] = ()


RestoreCommand = ReadmitServer | ReadmitCentre | AcceptLoss


def decide(state: DataCentre, command: RestoreCommand) -> list[Fact] | Denied:
    """The facts that follow; none where it is so already."""
    if isinstance(command, ReadmitServer):
        return _readmitted(state, command)
    if isinstance(command, ReadmitCentre):
        return _centre_readmitted(state, command)
    return _released(state, command)


def _readmitted(state: DataCentre, command: ReadmitServer) -> list[Fact] | Denied:
    if command.was not in state.primacy.before:
        detail = f"{command.name} is of {command.was}, which this log never was: it stays apart"
        return Denied(code="other_cluster", detail=detail)
    if command.incarnation in state.primacy.readmitted:
        return []
    return [ServerReadmitted(incarnation=command.incarnation, name=command.name, was=command.was)]


def _centre_readmitted(state: DataCentre, command: ReadmitCentre) -> list[Fact] | Denied:
    centre, known = command.centre, state.clusters.get(command.centre)
    if state.is_lost(centre):
        detail = f"{centre} was declared lost: start it anew under another name"
        return Denied(code="centre_lost", detail=detail)
    if known == command.cluster:
        return []
    if (known or state.apart.get(centre)) != command.was:
        detail = f"{centre} is not known as {command.was}: ask again"
        return Denied(code="unknown_centre", detail=detail)
    if not _is_same_or_later(command.cluster, command.was):
        detail = f"{command.cluster} was not restored from {command.was}: it is another log"
        return Denied(code="other_cluster", detail=detail)
    return [CentreReadmitted(centre=centre, cluster=command.cluster, was=command.was)]


def _is_same_or_later(cluster: str, was: str) -> bool:
    return cluster == was or is_restored_from(cluster, was)


# ---- what is released


def _released(state: DataCentre, command: AcceptLoss) -> list[Fact] | Denied:
    approved_by = list(command.approved_by)
    if command.cap is None:
        metas, is_over = list(state.metas.values()), not command.if_told
        ended = is_over and state.primacy.is_withholding
        return [
            *_releases(state, metas, command),
            *([WithholdingEnded(approved_by=approved_by)] if ended else []),
        ]
    meta = state.metas.get(command.cap)
    if meta is None:
        return Denied(code="unknown_cap", detail=f"no cap {command.cap!r}: nothing is withheld")
    return _releases(state, [meta], command)


def _releases(state: DataCentre, metas: Iterable[Meta], command: AcceptLoss) -> list[Fact]:
    """What is over is not released: it would be nobody's."""
    told, missing = dict(command.told), servers_missing(state)
    return [
        WithheldReleased(
            cap=meta.cap,
            number=each.number,
            amount=each.pool.withheld,
            approved_by=list(command.approved_by),
        )
        for meta in metas
        for each in meta.intervals
        if each.pool.withheld
        and not each.pool.ended
        and (not command.if_told or _is_told(state, meta, each, told, missing))
    ]


def _is_told(
    state: DataCentre,
    meta: Meta,
    interval: Interval,
    told: Mapping[str, int],
    missing: Collection[str],
) -> bool:
    """Whether nobody that is known can have what is withheld of an interval.

    All data centres have told, and were not restored themselves since it was opened; all servers
    have told. What this generation has opened the one before may have opened as well, which nobody
    may know; and what is open twice is not looked into.
    """
    restored_at = told.get(meta.cap)
    others = [each for each in meta.intervals if each is not interval and _overlap(each, interval)]
    is_own = not is_foreign(interval) and interval.number >= state.first_number
    if restored_at is None or others or is_own or missing:
        return False
    return not may_be_open(interval.start, interval.end, restored_at) or not restored_at


def servers_missing(state: DataCentre) -> list[str]:
    """The servers, by incarnation, that may have something of what is withheld, and have not told.

    They are those that this log knows of.
    """
    found = {
        incarnation
        for meta in state.metas.values()
        for each in meta.intervals
        if each.pool.old is not None
        for incarnation, account in each.pool.places.items()
        if is_foreign(each) or each.number < state.first_number
        if not (account.recovered or (account.final and not account.held))
    }
    return sorted(found)


# ---- what others tell


def confirmed(meta: Meta, first_number: int) -> HomeMoved:
    """The cap is decided here from now on, whatever the generation before has said of it."""
    return HomeMoved(
        cap=meta.cap,
        version=Version(meta.version.generation + 1, 1),
        home="",
        next_number=max(meta.next_number, first_number),
        opened_until=meta.opened_until,
        single_number=meta.single_number,
    )


def may_be_confirmed(meta: Meta, now: int, restored_at: int) -> bool:
    """Whether those that have told know of everything that is still open.

    The last of them was restored at `restored_at`, 0 for never: what it knew it may have lost.
    """
    definition = meta.definition
    if not restored_at or definition.interval == "single":
        return True  # a single is withheld all the same
    window = window_at(definition.interval, definition.timezone, now)
    return not may_be_served(definition, window, restored_at)


def may_be_open(start: int, end: int, restored_at: int) -> bool:
    """Whether a period can have been opened by `restored_at`: one length ahead of its start."""
    return start - (end - start) <= restored_at + SKEW_US


def opening_recovered(meta: Meta, learned: IntervalLearned, now: int) -> list[Fact]:
    """The generation before had opened an interval here, as another data centre tells.

    It takes the place of what this one has opened for the same period, if nothing of that has left;
    so the period has one total. Else nothing is minted, and what has left it is a debt.
    """
    over = [each for each in meta.intervals if _overlap(each, learned)]
    is_new = over or learned.start >= meta.opened_until
    if now >= learned.end or not is_new or not all(map(_is_untouched, over)):
        withheld = AmountWithheld(cap=meta.cap, number=learned.number, amount=0)
        return [learned, withheld]
    recovered = IntervalRecovered(
        cap=meta.cap,
        number=learned.number,
        start=learned.start,
        end=learned.end,
        total=total_in_force(meta, Window(learned.start, learned.end)),
    )
    return [*(fact for each in over for fact in _voided(meta, each)), recovered]


def _voided(meta: Meta, interval: Interval) -> list[Fact]:
    changed = IntervalTotalChanged(
        cap=meta.cap, number=interval.number, total=0, version=meta.version
    )
    return [changed, IntervalEnded(cap=meta.cap, number=interval.number)]


def _is_untouched(interval: Interval) -> bool:
    """Whether nothing has left it: all is withheld, as it was opened."""
    pool = interval.pool
    is_all = pool.old == pool.minted and not pool.places and pool.transfers is None
    return is_all and not pool.ended and not is_foreign(interval)


def is_foreign(interval: Interval) -> bool:
    """Whether another data centre has opened it."""
    return interval.sharing is not None and bool(interval.sharing.minter)


def _overlap(one: Interval | IntervalLearned, other: Interval | IntervalLearned) -> bool:
    return one.start < other.end and other.start < one.end
