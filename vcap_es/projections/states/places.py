"""Places and movements: the one mechanism by which amounts move.

The amounts of an interval live in places: the pool of a data centre, and whatever it deals with
(volumecap servers; other pools). They change place only by movements, and each movement is one
running total that only its giver writes:

    balance(pool) = minted - withheld - expired - sum(out) + sum(back)

A repeated, late or reordered total is a maximum already reached, and so changes nothing.
"""

from sys import intern

from msgspec import Struct


class Account(Struct, gc=False):
    """What a pool has moved to one other place and had back from it; running totals in units.

    `spent`, `refunded` and `refused` are what the place has told of itself; a pool never spends.
    `recovered` says that this generation of a restored log knows how it stood with the one before.
    """

    out: int = 0
    back: int = 0
    spent: int = 0
    refunded: int = 0
    refused: int = 0
    final: bool = False
    recovered: bool = False

    @property
    def held(self) -> int:
        """Units that are there, as far as it has told: moved to it, neither returned nor spent."""
        return self.out - self.back - self.spent + self.refunded


class Sent(Struct, gc=False):
    """What a pool has moved to another data centre in all, and what of that is surely there."""

    moved: int = 0
    settled: int = 0


class Transfers(Struct):
    """The movements of a pool to and from other data centres, by their names; running totals.

    `cuts` has, for those that were readmitted after a restore of theirs, what they were sent and
    what was received from them until then: that was between here and the generation before.
    """

    sent: dict[str, Sent] = {}
    received: dict[str, int] = {}
    cuts: dict[str, tuple[int, int]] = {}


class Pool(Struct, gc=False):
    """The amounts of one interval in one data centre.

    `available` is signed: a total lowered below what has left makes it a debt, paid by returns.
    `transfers` is None where nothing ever came from another data centre or went there. `old` is
    what a generation before the restore of the log may have granted elsewhere, None where it cannot
    have granted anything; it is signed: below 0 that is known to have granted more than there was,
    and `available` is in debt by it.
    """

    minted: int = 0
    available: int = 0
    expired: int = 0
    unreported: int = 0
    ended: bool = False
    closed: bool = False
    accounts: dict[str, Account] | None = None
    transfers: Transfers | None = None
    old: int | None = None

    @property
    def withheld(self) -> int:
        """Units that count as spent, because a generation before may have granted them."""
        return max(0, self.old or 0)

    def account(self, place: str) -> Account:
        """The account of `place`, opened on first use."""
        if self.accounts is None:
            self.accounts = {}
        found = self.accounts.get(place)
        if found is None:
            # Each of a million intervals would otherwise keep a copy of its servers' names.
            found = self.accounts[intern(place)] = Account()
        return found

    def peek(self, place: str) -> Account:
        """The account of `place`, or an empty one that is not kept."""
        return (self.accounts or {}).get(place) or Account()

    @property
    def places(self) -> dict[str, Account]:
        """All accounts; an empty mapping where none was opened."""
        return self.accounts or {}

    @property
    def held(self) -> int:
        """Units at all other places together, as far as they have told."""
        return sum(account.held for account in self.places.values())

    @property
    def sent(self) -> dict[str, Sent]:
        """What was moved to other data centres; an empty mapping where nothing was."""
        return self.transfers.sent if self.transfers is not None else {}

    @property
    def received(self) -> dict[str, int]:
        """What has come from other data centres; an empty mapping where nothing has."""
        return self.transfers.received if self.transfers is not None else {}

    def sent_to(self, centre: str) -> int:
        """Units moved to another data centre in all."""
        found = self.sent.get(centre)
        return found.moved if found is not None else 0

    @property
    def cuts(self) -> dict[str, tuple[int, int]]:
        """What was sent and received until others were readmitted; empty where nothing was."""
        return self.transfers.cuts if self.transfers is not None else {}

    @property
    def net(self) -> int:
        """Units that came from other data centres less those that went there."""
        return sum(self.received.values()) - sum(each.moved for each in self.sent.values())


def mint(pool: Pool, total: int) -> None:
    """Let the pool's rights be `total` in all; a lower total than before may leave a debt."""
    assert not pool.ended, "no total changes after the end"
    more = total - pool.minted
    pool.minted = total
    if pool.old is None:
        pool.available += more
    else:
        _shift_old(pool, more)  # a generation before may have been told the same


def withhold(pool: Pool, amount: int) -> None:
    """Let all that is available, `amount` units, count as granted by a generation before."""
    there = pool.available + pool.withheld
    assert amount == there, f"{amount} units are withheld, and {there} were available"
    pool.old, pool.available = amount, min(0, amount)


def release(pool: Pool, amount: int) -> None:
    """Let all that is withheld, `amount` units, be available, whoever may have it already."""
    assert 0 < amount == pool.withheld, f"{amount} of {pool.withheld} withheld units are released"
    pool.old = None
    _take_in(pool, amount)


def recover(pool: Pool, place: str, told: Account) -> None:
    """Take in how `place` stood with a generation before, running totals as `told` by itself.

    What it had from that is not elsewhere; what it returned to that may be anywhere.
    """
    account = pool.account(place)
    moved = max(0, told.out - account.out)
    returned = max(0, told.back - account.back)
    account.out, account.back = account.out + moved, account.back + returned
    account.spent = max(account.spent, told.spent)
    account.refunded = max(account.refunded, told.refunded)
    account.recovered = True
    assert account.refunded <= account.spent, f"{place} tells of more refunded than spent: {told}"
    assert account.held >= 0, f"{place} tells of more than its {account.out} units: {told}"
    if pool.old is None:
        _take_in(pool, -moved)
        pool.old = returned or None
    else:
        _shift_old(pool, returned - moved)


def _shift_old(pool: Pool, amount: int) -> None:
    """What a generation before may have granted is so much more; below 0 that leaves a debt."""
    assert pool.old is not None, "no generation before has granted anything of this"
    before, pool.old = min(0, pool.old), pool.old + amount
    _take_in(pool, min(0, pool.old) - before)


def move_out(pool: Pool, place: str, total: int) -> None:
    """Move on to `place` until the running total is `total`; the pool must have that much."""
    amount = total - pool.peek(place).out
    if amount <= 0:
        return
    assert amount <= pool.available, f"cannot move {amount} of {pool.available} to {place}"
    assert not pool.ended, "nothing is granted after the end"
    pool.available -= amount
    pool.account(place).out = total


def recover_out(pool: Pool, place: str, total: int) -> None:
    """Take in that `total` units were once moved on to `place`, which the pool did not know.

    After the end they were taken for expired; what the pool has not leaves a debt.
    """
    amount = max(0, total - pool.peek(place).out)
    _take_in(pool, -amount)
    pool.account(place).out += amount


def move_back(pool: Pool, place: str, total: int) -> None:
    """Take in what `place` has moved here, `total` in all so far.

    After the end a debt is paid first, and the rest expires.
    """
    account = pool.peek(place)
    amount = max(0, total - account.back)
    assert amount <= account.held, f"{place} gives back {amount} units, but holds {account.held}"
    account.back += amount
    _take_in(pool, amount)


def send(pool: Pool, centre: str, total: int) -> None:
    """Move on to another data centre until the running total is `total`; the pool must have it."""
    amount = total - pool.sent_to(centre)
    if amount <= 0:
        return
    assert amount <= pool.available, f"cannot send {amount} of {pool.available} to {centre}"
    assert not pool.ended, "nothing is sent after the end"
    pool.available -= amount
    _transfers(pool).sent.setdefault(intern(centre), Sent()).moved = total


def receive(pool: Pool, centre: str, total: int) -> None:
    """Take in what another data centre has moved here, `total` in all so far."""
    assert not pool.closed, "nothing comes after the close"
    amount = max(0, total - pool.received.get(centre, 0))
    if amount:
        _transfers(pool).received[intern(centre)] = total
        _take_in(pool, amount)


def cut(pool: Pool, centre: str) -> None:
    """Another data centre was restored: what was moved until now, its log may not know."""
    moved = pool.sent_to(centre), pool.received.get(centre, 0)
    if any(moved):
        _transfers(pool).cuts[intern(centre)] = moved


def recover_transfers(pool: Pool, centre: str, sent: int, received: int) -> None:
    """Take in what the generation before had sent to another data centre, and received from it.

    These are running totals. What that one has is not elsewhere; what it gave may be anywhere.
    """
    more_sent = max(0, sent - pool.sent_to(centre))
    more_received = max(0, received - pool.received.get(centre, 0))
    if more_sent:
        _transfers(pool).sent.setdefault(intern(centre), Sent()).moved = sent
        settle(pool, centre, sent)
    if more_received:
        _transfers(pool).received[intern(centre)] = received
    if pool.old is None:
        _take_in(pool, -more_sent)
        pool.old = more_received or None
    else:
        _shift_old(pool, more_received - more_sent)


def settle(pool: Pool, centre: str, total: int) -> None:
    """Another data centre has what was moved to it, up to `total` in all."""
    sent = pool.sent.get(centre)
    assert sent is not None, f"nothing was sent to {centre}"
    assert total <= sent.moved, f"{centre} has {total}, and {sent.moved} was sent there"
    sent.settled = max(sent.settled, total)


def _transfers(pool: Pool) -> Transfers:
    if pool.transfers is None:
        pool.transfers = Transfers()
    return pool.transfers


def _take_in(pool: Pool, amount: int) -> None:
    """What comes after the end pays a debt, and the rest of it expires; so it is if some goes."""
    pool.available += amount
    if pool.ended:
        left = pool.available + pool.expired
        pool.available, pool.expired = min(0, left), max(0, left)


def end(pool: Pool) -> None:
    """Expire what is available; a debt stays, for later returns to pay."""
    left = max(0, pool.available)
    pool.available -= left
    pool.expired += left
    pool.ended = True


def close(pool: Pool, unreported: int) -> None:
    """Make the books final: what is still held elsewhere counts as spent for ever."""
    assert pool.ended, "an interval ends before it closes"
    assert unreported == pool.held, f"closed with {unreported} unreported, but {pool.held} held"
    pool.unreported = unreported
    pool.closed = True
