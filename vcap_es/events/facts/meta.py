"""Facts of a meta: the definition of a cap."""

from typing import Literal

from msgspec import Struct

from vcap_es.events.facts.bounds import Long
from vcap_es.events.facts.centre import Stamp

IntervalKind = Literal["minute", "hour", "day", "week", "month", "single"]
Mode = Literal["hard", "shadow"]
Pacing = Literal["asap", "even"]


class Version(Struct, frozen=True, order=True, array_like=True, gc=False):
    """Which of two definitions of a cap is newer.

    `generation` rises only when a lost home is replaced by force; `number` with every change.
    """

    generation: Long
    number: Long

    def __str__(self) -> str:
        return f"{self.generation}.{self.number}"


class Definition(Struct, frozen=True, kw_only=True, gc=False):
    """What an operator asks of a cap: `total` units in each interval, between `start` and `end`.

    `total` and `initial_total` are units, `0 .. 2**63 - 1`; `initial_total` replaces `total` in a
    first period that `start` cuts short. `start` and `end` are instants in microseconds UTC,
    half-open; None means "from now" and "for ever".
    """

    total: Long
    interval: IntervalKind = "day"
    timezone: str = "UTC"
    start: Long | None = None
    end: Long | None = None
    initial_total: Long | None = None
    group: str | None = None
    labels: dict[str, str] = {}
    mode: Mode = "hard"
    pacing: Pacing = "asap"
    placement: str = "local"


class MetaDefined(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The cap `cap` exists from now on, or again after it was retired."""

    cap: str
    version: Version
    definition: Definition


class MetaChanged(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The cap has this whole definition from now on."""

    cap: str
    version: Version
    definition: Definition


class MetaPaused(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The total in force is 0 until the cap is resumed."""

    cap: str
    version: Version


class MetaResumed(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The total of the definition is in force again."""

    cap: str
    version: Version


class MetaRetired(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The cap serves no more; every interval numbered below `ended_before` is over."""

    cap: str
    version: Version
    ended_before: Long


class HomeMoved(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The data centre `home` decides the cap from now on; "" is the one that records this.

    It opens the intervals from `next_number` on, of periods that begin at `opened_until`, in
    microseconds UTC, or later. `single_number` is the one that was opened as a `single`, or -1.
    """

    cap: str
    version: Version
    home: str
    next_number: Long
    opened_until: Long
    single_number: Long


class MetaLearned(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """This is the newest definition of a cap whose home is another data centre, as that has it.

    With this version, all periods up to `opened_until` were open there, in microseconds UTC.
    """

    cap: str
    home: str
    version: Version
    definition: Definition
    paused: bool
    retired: bool
    ended_before: Long
    opened_until: Long = 0


class TemplateDefined(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """A cap whose id matches `match` (with `*` for any characters) is defined on first use."""

    match: str
    definition: Definition


class TemplateLearned(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """This is the newest word of another data centre on a template; None: it was retired.

    Caps are defined by it at the data centre that has decided it, the `origin` of the stamp.
    """

    match: str
    definition: Definition | None
    stamp: Stamp


class TemplateRetired(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """No further cap is defined by this template; those that were stay."""

    match: str
