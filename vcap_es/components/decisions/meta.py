"""What follows from an operator's command about a cap. The same command twice gives nothing new."""

from collections.abc import Callable

from msgspec import Struct

from vcap_es.components.decisions.centre import NO_CENTRE, template_home
from vcap_es.components.decisions.denied import Denied
from vcap_es.components.decisions.placement import unknown
from vcap_es.events.facts import (
    Definition,
    Fact,
    HomeMoved,
    MetaChanged,
    MetaDefined,
    MetaPaused,
    MetaResumed,
    MetaRetired,
    TemplateDefined,
    TemplateRetired,
    Version,
)
from vcap_es.events.placements import is_named
from vcap_es.projections.states.data_centre import DataCentre
from vcap_es.projections.states.meta import Meta


class Define(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Let `cap` have this definition, whether or not it exists.

    With `if_version`, only where that is the version in force (`Version(0, 0)`: does not exist).
    """

    cap: str
    definition: Definition
    if_version: Version | None = None


class Pause(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Let the total in force be 0 until `Resume`."""

    cap: str
    if_version: Version | None = None


class Resume(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Let the total of the definition be in force again."""

    cap: str
    if_version: Version | None = None


class Retire(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """End the cap and its open intervals."""

    cap: str
    if_version: Version | None = None


class MoveHome(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Let another data centre decide the cap, from its first interval that is not open yet."""

    cap: str
    to: str
    if_version: Version | None = None


class DefineTemplate(Struct, frozen=True, kw_only=True, gc=False):
    """Let caps whose id matches `match` be defined on first use, at the data centre that decides.

    That is where this command is given: who gives the same one elsewhere moves the template.
    """

    match: str
    definition: Definition


class RetireTemplate(Struct, frozen=True, kw_only=True, gc=False):
    """Define no further caps by the template `match`."""

    match: str


CapCommand = Define | Pause | Resume | Retire | MoveHome
MetaCommand = CapCommand | DefineTemplate | RetireTemplate
NO_VERSION = Version(0, 0)


def decide(state: DataCentre, dc: str, command: MetaCommand) -> list[Fact] | Denied:
    """The facts that follow from `command` at the data centre `dc`; none where it is so already."""
    match command:
        case Define() | DefineTemplate() if (denied := _denied(state, dc, command)) is not None:
            return denied
        case DefineTemplate():
            is_own = template_home(state, dc, command.match) == dc
            same = is_own and state.templates.get(command.match) == command.definition
            fact = TemplateDefined(match=command.match, definition=command.definition)
            return [] if same else [fact]
        case RetireTemplate():
            if command.match not in state.templates:
                return Denied(code="unknown_template", detail=f"no template {command.match!r}")
            return [TemplateRetired(match=command.match)]
        case _:
            denied = _denied_move(state, command) if isinstance(command, MoveHome) else None
            return denied or _decide_cap(state.metas.get(command.cap), dc, command)


def _denied(state: DataCentre, dc: str, command: Define | DefineTemplate) -> Denied | None:
    """Why nothing is defined so here, whatever there is already."""
    if is_named(state.terms_of(command.definition.placement)):
        return unknown(command.definition.placement)
    is_new = isinstance(command, DefineTemplate) or command.cap not in state.metas
    if is_new and state.centres.get(dc, NO_CENTRE).membership == "drain":
        detail = f"{dc} is being removed, and becomes no home any more: ask another data centre"
        return Denied(code="drains", detail=detail)
    return None


def _denied_move(state: DataCentre, command: MoveHome) -> Denied | None:
    meta, centre = state.metas.get(command.cap), state.centres.get(command.to)
    if meta is not None and state.is_unconfirmed(meta):
        detail = f"others may decide {command.cap} since the restore: readmit them first"
        return Denied(code="unconfirmed", detail=detail)
    if centre is not None and centre.membership == "in":
        return None
    detail = f"{command.to} takes no part here: add it first"
    return Denied(code="unknown_centre", detail=detail)


def _decide_cap(meta: Meta | None, dc: str, command: CapCommand) -> list[Fact] | Denied:
    if meta is not None and meta.home:
        detail = f"{command.cap} is decided at the data centre {meta.home}: ask there"
        return Denied(code="not_home", detail=detail, home=meta.home)
    wanted, found = command.if_version, meta.version if meta else NO_VERSION
    if wanted is not None and wanted != found:
        detail = f"{command.cap} has version {found}, not {wanted}: read it again, then change it"
        return Denied(code="version_conflict", detail=detail)
    if isinstance(command, Define):
        return _define(meta, command)
    if meta is None:
        return Denied(code="unknown_cap", detail=f"no cap {command.cap!r}: define it first")
    if meta.retired:
        return [] if isinstance(command, Retire) else _retired(command.cap)
    if isinstance(command, MoveHome):
        return [] if command.to == dc else [_moved(meta, command.to)]
    return _CHANGES[type(command)](meta)


def _define(meta: Meta | None, command: Define) -> list[Fact]:
    if meta is None or meta.retired:
        version = following(meta.version if meta else NO_VERSION)
        return [MetaDefined(cap=command.cap, version=version, definition=command.definition)]
    kept = settled(command.definition, meta.definition)
    if kept == meta.definition:
        return []
    version = following(meta.version)
    return [MetaChanged(cap=command.cap, version=version, definition=kept)]


def settled(definition: Definition, before: Definition) -> Definition:
    """The definition as it is kept: what the operator leaves open stays as it was decided."""
    return definition if definition.start is not None else _with_start(definition, before.start)


def _with_start(definition: Definition, start: int | None) -> Definition:
    fields = {name: getattr(definition, name) for name in definition.__struct_fields__}
    return Definition(**{**fields, "start": start})


def _pause(meta: Meta) -> list[Fact]:
    return [] if meta.paused else [MetaPaused(cap=meta.cap, version=following(meta.version))]


def _resume(meta: Meta) -> list[Fact]:
    return [MetaResumed(cap=meta.cap, version=following(meta.version))] if meta.paused else []


def _retire(meta: Meta) -> list[Fact]:
    version, ended_before = following(meta.version), meta.next_number
    return [MetaRetired(cap=meta.cap, version=version, ended_before=ended_before)]


def _moved(meta: Meta, home: str) -> HomeMoved:
    return HomeMoved(
        cap=meta.cap,
        version=following(meta.version),
        home=home,
        next_number=meta.next_number,
        opened_until=meta.opened_until,
        single_number=meta.single_number,
    )


_CHANGES: dict[type, Callable[[Meta], list[Fact]]] = {
    Pause: _pause,
    Resume: _resume,
    Retire: _retire,
}


def following(version: Version) -> Version:
    """The version of the next change."""
    return Version(version.generation, version.number + 1)


def _retired(cap: str) -> Denied:
    return Denied(code="retired", detail=f"{cap} is retired: define it again first")
