"""Shared intervals are closed when all have told their books, and whatever was sent has come.

All tell theirs to the minter, or to who stands in for it; that one closes, and lets the others.
"""

from collections.abc import Mapping

from vcap_es.components.decisions.interval import CLOSE_AFTER_US, is_settled_here
from vcap_es.components.messages.centre import Books, BooksClosed
from vcap_es.components.remote_handler.exchange import Exchange
from vcap_es.components.remote_handler.membership import Membership
from vcap_es.projections.states.interval import IntervalKey

BOOKS_US = 2_000_000


class ClosingBooks:
    """The books that others have told of intervals that end here."""

    def __init__(self, membership: Membership) -> None:
        self._membership, self._due = membership, membership.now
        self._books: dict[IntervalKey, dict[str, Books]] = {}

    def heard(self, centre: str, key: IntervalKey, books: Books) -> None:
        """Another data centre has told its books of an interval."""
        self._books.setdefault(key, {})[centre] = books

    def forget(self, key: IntervalKey) -> None:
        """The interval is closed."""
        self._books.pop(key, None)

    def step(self, exchanges: Mapping[IntervalKey, Exchange]) -> list[IntervalKey]:
        """Tell the books of what has ended; the intervals that are to be closed now."""
        if self._membership.now < self._due:
            return []
        self._due = self._membership.now + BOOKS_US
        return [key for key, each in exchanges.items() if self._tell(key, each)]

    def _tell(self, key: IntervalKey, exchange: Exchange) -> bool:
        interval, membership = exchange.shared.interval, self._membership
        if not is_settled_here(interval, membership.now):
            return False
        sent = {centre: each.moved for centre, each in interval.pool.sent.items()}
        books = Books(about=exchange.shared.about, sent=sent, received=dict(interval.pool.received))
        if not exchange.shared.is_gatherer:
            membership.tell(exchange.shared.gatherer, books)
            return False
        told = {**self._books.get(key, {}), membership.dc: books}
        is_over = self._agree(told) or membership.now >= interval.end + CLOSE_AFTER_US
        if is_over:
            membership.tell_others(BooksClosed(about=exchange.shared.about))
        return is_over

    def _agree(self, books: Mapping[str, Books]) -> bool:
        """Whether everybody has told, and whatever was sent has come."""
        if (
            any(each not in books for each in self._membership.others)
            or self._membership.state.is_apart
        ):
            return False  # who drains tells that it has nothing of what it does not know
        return all(
            here.sent.get(there, 0) == books[there].received.get(centre, 0)
            for centre, here in books.items()
            for there in books
            if there != centre
        )
