"""What other data centres may have, as the local handler asks for it."""

from typing import Protocol

from vcap_es.components.local_handler.demands import Left
from vcap_es.projections.states.interval import IntervalKey


class OtherCentres(Protocol):
    """What the local handler needs of other data centres."""

    def may_come(self, key: IntervalKey, missing: int, now: int) -> bool:
        """Whether so many units may be had there; then they are asked for."""

    def touch(self, key: IntervalKey) -> None:
        """Something about an interval has changed here."""

    def left(self, key: IntervalKey) -> Left:
        """What there may be, though fewer units than were asked for."""

    def is_scarce(self, key: IntervalKey) -> bool:
        """Whether the rest of the interval is gathered at one of them."""

    def reserved(self, key: IntervalKey, now: int) -> int:
        """Units of the pool here that were promised there."""

    def heard(self, cap: str) -> None:
        """Servers here have said to serve by the newest definition of a cap."""

    def have_heard(self, cap: str) -> bool:
        """Whether all others that may have units of a cap have said so of their servers."""


class NoOtherCentres:
    """There is no other data centre."""

    def may_come(self, _key: IntervalKey, _missing: int, _now: int) -> bool:
        """Nothing ever comes."""
        return False

    def touch(self, _key: IntervalKey) -> None:
        """Nobody cares."""

    def left(self, _key: IntervalKey) -> Left:
        """Nothing is there."""
        return Left()

    def is_scarce(self, _key: IntervalKey) -> bool:
        """Nothing is gathered."""
        return False

    def reserved(self, _key: IntervalKey, _now: int) -> int:
        """Nothing is promised."""
        return 0

    def heard(self, _cap: str) -> None:
        """Nobody cares."""

    def have_heard(self, _cap: str) -> bool:
        """Who is lost or out may serve on, for all that is known."""
        return False
