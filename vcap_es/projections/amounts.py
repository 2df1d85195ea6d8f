"""The terms of the equation: where the units of an interval are.

total + received - sent = available + withheld + held + spent + expired + unreported

`received` and `sent` are what came from other data centres and what went there.
"""

from msgspec import Struct


class Amounts(Struct, frozen=True, kw_only=True, gc=False):
    """Where `total` units are; all in units, `available` signed and `spent` net of refunds."""

    total: int = 0
    received: int = 0
    sent: int = 0
    available: int = 0
    withheld: int = 0
    held: int = 0
    spent: int = 0
    expired: int = 0
    unreported: int = 0

    def __add__(self, other: "Amounts") -> "Amounts":
        return Amounts(
            total=self.total + other.total,
            received=self.received + other.received,
            sent=self.sent + other.sent,
            available=self.available + other.available,
            withheld=self.withheld + other.withheld,
            held=self.held + other.held,
            spent=self.spent + other.spent,
            expired=self.expired + other.expired,
            unreported=self.unreported + other.unreported,
        )

    @property
    def difference(self) -> int:
        """What is here above the sum of all places: 0 where the equation holds."""
        granted = self.held + self.spent + self.expired + self.unreported
        return self.total + self.received - self.sent - self.available - self.withheld - granted
