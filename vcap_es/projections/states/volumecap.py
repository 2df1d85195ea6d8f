"""The slices that volumecap servers hold of an interval."""

from vcap_es.events.facts import Returned, Spend, ToppedUp
from vcap_es.projections.states.places import Account, Pool, move_back, move_out


def evolve_moved(pool: Pool, fact: ToppedUp | Returned) -> None:
    """A movement between the pool and a server has become true."""
    if isinstance(fact, ToppedUp):
        move_out(pool, fact.incarnation, fact.moved)
    elif not pool.closed:
        move_back(pool, fact.incarnation, fact.returned)


def evolve_spend(pool: Pool, incarnation: str, entry: Spend) -> None:
    """A server's running totals have become known; after the close nothing changes again."""
    if pool.closed:
        return
    account = pool.account(incarnation)
    account.spent = max(account.spent, entry.spent)
    account.refunded = max(account.refunded, entry.refunded)
    account.refused = max(account.refused, entry.refused)
    account.final = account.final or entry.final
    assert_within(account)


def assert_within(account: Account) -> None:
    """A server never tells of more than it was given."""
    assert 0 <= account.refunded <= account.spent, f"refunded above spent: {account}"
    assert account.held >= 0, f"told of more than it was given: {account}"
