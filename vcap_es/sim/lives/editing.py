"""Edits of a definition while it lives: all that an operator may change, by mistake or not."""

from collections.abc import Sequence
from random import Random

from msgspec import structs

from vcap_es.components.decisions.meta import (
    CapCommand,
    Define,
    MoveHome,
    Pause,
    Resume,
    Retire,
)
from vcap_es.events.facts import Definition
from vcap_es.events.facts.meta import IntervalKind

SECOND = 1_000_000
KINDS: tuple[IntervalKind, ...] = ("minute", "minute", "hour", "day", "single")
ZONES = ("UTC", "Asia/Kathmandu", "Pacific/Chatham")
TOTALS = (0, 7, 60, 200, 1000)


def edit(
    random: Random, cap: str, plain: Definition, now: int, others: Sequence[str] = ()
) -> CapCommand:
    """What an operator wants of `cap` at `now`; `plain` is its definition as it should be.

    `others` are data centres that it may be moved to.
    """
    roll = random.randrange(12)
    if roll == 0:
        return Pause(cap=cap)
    if roll in (1, 2):
        return Resume(cap=cap)
    if roll == 3:
        return Retire(cap=cap)
    if roll == 4 and others:
        return MoveHome(cap=cap, to=random.choice(others))
    if roll in (5, 6):
        return Define(cap=cap, definition=plain)
    return Define(cap=cap, definition=_edited(random, plain, now))


def _edited(random: Random, plain: Definition, now: int) -> Definition:
    """A definition of which something is other than it should be."""
    match random.randrange(5):
        case 0:
            return structs.replace(plain, total=random.choice(TOTALS))
        case 1:
            return structs.replace(plain, end=now + random.choice((0, 1, 5, 20)) * SECOND)
        case 2:
            start = now + random.choice((-30, 1, 5, 20)) * SECOND
            return structs.replace(plain, start=start)
        case 3:
            return structs.replace(plain, timezone=random.choice(ZONES))
        case _:
            kind = random.choice(KINDS)
            end = now + random.choice((5, 40, 4000)) * SECOND if kind == "single" else None
            return structs.replace(plain, interval=kind, end=end)
