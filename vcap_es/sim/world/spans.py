"""Ranges of running totals that were given out, however long they are."""

from bisect import bisect_left


class Spans:
    """Half-open ranges `[first, last)` that do not overlap; those that touch are kept as one."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def add(self, first: int, last: int) -> bool:
        """Take in a range; False, and nothing is taken in, where some of it is there already."""
        at = bisect_left(self._firsts, first)
        if at > 0 and self._lasts[at - 1] > first:
            return False
        if at < len(self._firsts) and self._firsts[at] < last:
            return False
        self._insert(at, first, last)
        return True

    def _insert(self, at: int, first: int, last: int) -> None:
        joins_before = at > 0 and self._lasts[at - 1] == first
        joins_after = at < len(self._firsts) and self._firsts[at] == last
        if joins_after:
            last = self._lasts[at]
            del self._firsts[at], self._lasts[at]
        if joins_before:
            self._lasts[at - 1] = last
        else:
            self._firsts.insert(at, first)
            self._lasts.insert(at, last)
