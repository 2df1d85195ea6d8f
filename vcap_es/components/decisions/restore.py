"""What operators decide after a log was restored from a backup. Pure."""

from collections.abc import Iterable

from msgspec import Struct

from vcap_es.components.decisions.denied import Denied
from vcap_es.events.facts import (
    AmountWithheld,
    Fact,
    LogRestored,
    ServerReadmitted,
    WithheldReleased,
    WithholdingEnded,
)
from vcap_es.projections.states.data_centre import DataCentre
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


class ReadmitServer(Struct, frozen=True, kw_only=True, gc=False):
    """Let a server of the generation `was` belong to this one, with what it holds."""

    incarnation: str
    name: str
    was: str


class AcceptLoss(Struct, frozen=True, kw_only=True, gc=False):
    """Release what is withheld of `cap`; None: of all caps, and withhold nothing more.

    `approved_by` are the operators who said so.
    """

    cap: str | None = None
    approved_by: tuple[str, ...] = ()


RestoreCommand = ReadmitServer | AcceptLoss


def decide(state: DataCentre, command: RestoreCommand) -> list[Fact] | Denied:
    """The facts that follow; none where it is so already."""
    if isinstance(command, ReadmitServer):
        return _readmitted(state, command)
    return _released(state, command)


def _readmitted(state: DataCentre, command: ReadmitServer) -> list[Fact] | Denied:
    if command.was not in state.primacy.before:
        detail = f"{command.name} is of {command.was}, which this log never was: it stays apart"
        return Denied(code="other_cluster", detail=detail)
    if command.incarnation in state.primacy.readmitted:
        return []
    return [ServerReadmitted(incarnation=command.incarnation, name=command.name, was=command.was)]


def _released(state: DataCentre, command: AcceptLoss) -> list[Fact] | Denied:
    approved_by = list(command.approved_by)
    if command.cap is None:
        ended = [WithholdingEnded(approved_by=approved_by)] if state.primacy.is_withholding else []
        return [*_releases(state.metas.values(), approved_by), *ended]
    meta = state.metas.get(command.cap)
    if meta is None:
        return Denied(code="unknown_cap", detail=f"no cap {command.cap!r}: nothing is withheld")
    return _releases([meta], approved_by)


def _releases(metas: Iterable[Meta], approved_by: list[str]) -> list[Fact]:
    """What is over is not released: it would be nobody's."""
    return [
        WithheldReleased(
            cap=meta.cap, number=each.number, amount=each.pool.withheld, approved_by=approved_by
        )
        for meta in metas
        for each in meta.intervals
        if each.pool.withheld and not each.pool.ended
    ]
