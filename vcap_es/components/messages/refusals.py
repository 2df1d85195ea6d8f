"""The refusals of a volumecap server, in words."""

import re
from collections.abc import Callable

from vcap_es.components.messages.outcomes import Refused
from vcap_es.events.amounts import MAX_AMOUNT

_CAPPED = re.compile(r"fewer than (\d+) units of (\S+) are left in this interval")


def unavailable(cap: str, why: str) -> Refused:
    """It cannot be known now; try again."""
    return Refused(code="unavailable", cap=cap, detail=why, retry_after_ms=1000)


def capped(cap: str, amount: int, retry_after_ms: int, *, withheld: int = 0) -> Refused:
    """So many units are not left; the next interval begins in `retry_after_ms`.

    What is `withheld` may be spent already: only operators can find out, or accept the loss.
    """
    detail = f"fewer than {amount} units of {cap} are left in this interval"
    if withheld:
        detail += (
            f"; {withheld} count as spent since the log was restored from a backup, until old"
            " servers are readmitted or two operators release them"
        )
    return Refused(code="capped", cap=cap, detail=detail, retry_after_ms=retry_after_ms)


def capped_amount(refused: Refused) -> int | None:
    """How many units were refused so; None where the words are others than those of `capped`."""
    told = _CAPPED.fullmatch(refused.detail)
    return int(told[1]) if told is not None and told[2] == refused.cap else None


def paced(cap: str, amount: int, retry_after_ms: int) -> Refused:
    """So many units are not released yet; they are in `retry_after_ms`, if nobody else comes."""
    detail = f"{cap} is released evenly over its interval: wait for {amount} units"
    return Refused(code="paced", cap=cap, detail=detail, retry_after_ms=retry_after_ms)


def counted_out(cap: str, number: int, retry_after_ms: int) -> Refused:
    """A running total of this interval would pass its bound; those of the next one begin at 0."""
    detail = (
        f"so many units of {cap}, interval {number}, were moved here and spent already"
        f" that a running total would pass {MAX_AMOUNT}: ask another server, or wait for the next"
        " interval"
    )
    return Refused(code="counted_out", cap=cap, detail=detail, retry_after_ms=retry_after_ms)


def _unknown(cap: str, _begins_in_ms: int | None) -> Refused:
    return Refused(code="unknown_cap", cap=cap, detail=f"no cap {cap} is defined: define it first")


def _not_started(cap: str, begins_in_ms: int | None) -> Refused:
    return Refused(
        code="not_started",
        cap=cap,
        detail=f"{cap} does not serve yet",
        retry_after_ms=begins_in_ms,
    )


def _paused(cap: str, _begins_in_ms: int | None) -> Refused:
    return Refused(code="paused", cap=cap, detail=f"{cap} is paused: it serves when it is resumed")


def _over(cap: str, _begins_in_ms: int | None) -> Refused:
    return Refused(code="ended", cap=cap, detail=f"{cap} serves no more: it is over or retired")


BY_STATE: dict[str, Callable[[str, int | None], Refused]] = {
    "unknown": _unknown,
    "paused": _paused,
    "not_started": _not_started,
    "retired": _over,
    "over": _over,
}
"""How a cap is refused, by the state of its notice, and when it serves next; an active one is not.
"""
