"""What a master says of itself: who leads as far as it knows, and whether it can serve now."""

from collections.abc import Mapping

from msgspec import Struct

from vcap_es.components.decisions.primacy import SLOTS
from vcap_es.components.hybrid_clock import AHEAD_US
from vcap_es.components.master.master import Master
from vcap_es.events.facts import LogRestored
from vcap_es.events.instants import LAST_INSTANT, format_instant
from vcap_es.events.units import SECOND_US

Check = tuple[str, bool, str]
"""A check, its verdict, and a word on it."""


WAITS = (
    "its directory is empty, so it waits until a master that leads speaks to it, and copies that "
    "one's log; to found a cluster of its own instead, end it and run `vcap init`"
)
"""What a master waits for that belongs to no cluster yet."""

VOTELESS = "has everything but no vote yet, so nothing goes on without the one that leads"
"""Said of a copy before the voters include it: the loss of the leader would stop the cluster."""


class PrimacyView(Struct, frozen=True, kw_only=True):
    """What a master knows of who leads, who is in sync and who votes.

    `before` are the voters until now while a change of `voters` is under way, else empty.
    """

    cluster: str
    node: str
    name: str
    slot: int
    role: str
    epoch: int
    version: int
    leader_name: str
    leader_address: str
    isr: list[str]
    voters: list[str]
    before: list[str]
    position: int
    committed: int
    lag: int
    suspicion: str
    is_active: bool
    masters: list[str]
    witnesses: list[str]


def role_of(core: Master) -> str:
    """`primary`, `secondary` or `suspect`."""
    return {"leading": "primary", "suspect": "suspect"}.get(core.role, "secondary")


def primacy_of(core: Master) -> PrimacyView:
    """What this master knows of who leads."""
    config, leader, name = core.config, core.leader, core.identity.name
    return PrimacyView(
        cluster=core.cluster,
        node=core.node,
        name=name,
        slot=core.identity.slot,
        role=role_of(core),
        epoch=core.epoch,
        version=config.version if config else 0,
        leader_name=leader.name if leader else "",
        leader_address=leader.address if leader else "",
        isr=list(config.isr) if config else [],
        voters=list(config.voters) if config else [],
        before=list(config.before) if config else [],
        position=core.replica.head.position,
        committed=core.replica.committed,
        lag=core.secondary.lag,
        suspicion=core.suspicion,
        is_active=core.leadership is None or core.leadership.is_active,
        masters=[name, *(each.name for each in core.masters.values())],
        witnesses=core.witnesses,
    )


def checks_of(
    core: Master | None, *, has_failed: bool, is_full: bool, clock_is_sound: bool, now: int
) -> list[Check]:
    """Whether a master can serve at `now`; without a core it begins anew from its log."""
    if core is None:
        return [("primacy", False, "this master begins anew from its log")]
    troubled = core.primary.intervals.troubled if core.primary is not None else {}
    restored = core.state.primacy.restored
    return [
        _log_check(core, has_failed=has_failed, is_full=is_full),
        _primacy_check(primacy_of(core)),
        _clock_check(core, is_sound=clock_is_sound, now=now),
        ("calendar", True, _calendar_word(troubled)),
        *([] if restored is None else [_restore_check(restored)]),
    ]


def _log_check(core: Master, *, has_failed: bool, is_full: bool) -> Check:
    doubt = core.primary.locals.doubt if core.primary is not None else ""
    if doubt:
        return "log", False, f"{doubt}; what it may have granted is withheld: see vcap restore"
    if is_full:
        word = "the disk is full: make room; nothing is acknowledged here until then"
    else:
        word = "failed" if has_failed else f"durable up to {core.replica.head.position}"
    return "log", not (has_failed or is_full), word


def _primacy_check(view: PrimacyView) -> Check:
    if view.suspicion:
        return "primacy", False, f"suspect: {view.suspicion}"
    if view.role == "primary":
        word = f"{view.name} leads epoch {view.epoch}"
        if not view.is_active:
            return "primacy", False, f"{word}, but no majority of the voters answers"
        return "primacy", True, f"{word}, in sync: {_in_sync_word(view)}"
    if not view.cluster:
        return "primacy", False, WAITS
    if not view.leader_name:
        return "primacy", False, "no primary master is known here"
    has_all = view.node in view.isr
    how = "catching up" if not has_all else "in sync" if _votes(view, view.node) else VOTELESS
    word = f"{view.name} follows {view.leader_name} in epoch {view.epoch}"
    return "primacy", has_all, f"{word}, {how}, lag {view.lag}"


def _in_sync_word(view: PrimacyView) -> str:
    """How many masters could go on alone: those that have everything and surely vote."""
    voteless = [each for each in view.isr if not _votes(view, each)]
    word = f"{len(view.isr) - len(voteless)} of {SLOTS}"
    return f"{word}; {', '.join(voteless)} {VOTELESS}" if voteless else word


def _votes(view: PrimacyView, node: str) -> bool:
    """Whether its vote counts, also while a change of the voters is under way."""
    return node in view.voters and (not view.before or node in view.before)


def _clock_check(core: Master, *, is_sound: bool, now: int) -> Check:
    """A clock that others do not share is told of, and served by: nobody knows which is right."""
    words = [] if is_sound else ["the wall clock jumped: set it, then restart"]
    ahead = log_ahead(core, now)
    if ahead:
        words.append(ahead)
    words += [clocks_differ(*each) for each in core.departures.values()]
    return "clock", is_sound, "; ".join(words) or "sound"


def log_ahead(core: Master, now: int) -> str:
    """By how much the log's time is ahead of the clock here, and until when; "" where it is not.

    Stamps never run backwards, so the calendar stands still until the clock has come there.
    """
    ahead_s = (core.stamp - now) // SECOND_US
    if core.stamp - now <= AHEAD_US:
        return ""
    until = format_instant(min(core.stamp, LAST_INSTANT))
    return (
        f"the log is stamped {ahead_s} s ahead of this clock: no period begins or ends before"
        f' {until} (see "A clock that was wrong" in docs/operations.md)'
    )


def clocks_differ(name: str, ahead_us: int) -> str:
    """How far the clock of a node was from this one, when it connected."""
    way = "ahead of" if ahead_us > 0 else "behind"
    seconds = abs(ahead_us) // SECOND_US
    return f"the clock of {name} was {seconds} s {way} this one when it connected: set one right"


def _restore_check(restored: LogRestored) -> Check:
    word = f"position {restored.position} of {restored.was} was restored, as {restored.cluster}"
    return "restore", True, f"{word}: what is withheld since, `vcap restore status` shows"


def _calendar_word(troubled: Mapping[str, str]) -> str:
    """The first cap that stands still, and how many do; all others are served."""
    for cap, why in troubled.items():
        return f"{len(troubled)} caps stand still, such as {cap}: {why}"
    return "every period can be computed"
