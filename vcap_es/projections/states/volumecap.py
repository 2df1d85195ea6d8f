"""The slices that volumecap servers hold of an interval."""

from vcap_es.events.facts import HoldingRecovered, Returned, Spend, ToppedUp, TopupRecovered
from vcap_es.projections.states.places import (
    Account,
    Pool,
    move_back,
    move_out,
    recover,
    recover_out,
)

Movement = ToppedUp | TopupRecovered | HoldingRecovered | Returned


def evolve_moved(pool: Pool, fact: Movement) -> None:
    """A movement between the pool and a server has become true."""
    if isinstance(fact, ToppedUp):
        move_out(pool, fact.incarnation, fact.moved)
    elif isinstance(fact, TopupRecovered):
        recover_out(pool, fact.incarnation, fact.moved)
    elif isinstance(fact, HoldingRecovered):
        recover(
            pool,
            fact.incarnation,
            Account(out=fact.moved, back=fact.returned, spent=fact.spent, refunded=fact.refunded),
        )
    elif not pool.closed:
        move_back(pool, fact.incarnation, fact.returned)


def evolve_spend(pool: Pool, incarnation: str, entry: Spend) -> None:
    """A server's running totals have become known; after the close nothing changes again."""
    if pool.closed:
        return
    check_spend(pool, incarnation, entry)
    account = pool.account(incarnation)
    account.spent = max(account.spent, entry.spent)
    account.refunded = max(account.refunded, entry.refunded)
    account.refused = max(account.refused, entry.refused)
    account.final = account.final or entry.final


def check_spend(pool: Pool, incarnation: str, entry: Spend) -> None:
    """Assert that the server tells of no more than it was given; nothing changes here."""
    account = pool.peek(incarnation)
    spent = max(account.spent, entry.spent)
    refunded = max(account.refunded, entry.refunded)
    assert 0 <= refunded <= spent, f"{incarnation} tells of more refunded than spent: {entry}"
    here = account.out - account.back
    assert spent - refunded <= here, f"{incarnation} tells of more than its {here} units: {entry}"
