"""Places and movements: exact, signed, and deaf to repeats."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcap_es.projections.states.places import (
    Pool,
    close,
    end,
    mint,
    move_back,
    move_out,
)

amounts = st.integers(0, 2**62)


def pool_of(total: int, **moved: int) -> Pool:
    """A pool of `total` that has moved these amounts to these places."""
    pool = Pool()
    mint(pool, total)
    for place, amount in moved.items():
        move_out(pool, place, amount)
    return pool


def test_a_debt_is_remembered_and_not_clamped() -> None:
    """100, spend 80, lower to 50, raise to 100: at most 20 more may be served, not 50."""
    # Given 80 of 100 spent by a server
    pool = pool_of(100, s=80)
    pool.account("s").spent = 80
    # When the total is lowered to 50, the pool is over by 30
    mint(pool, 50)
    assert pool.available == -30
    # When it is raised to 100 again, exactly what was left before is there
    mint(pool, 100)
    assert pool.available == 20
    with pytest.raises(AssertionError):
        move_out(pool, "s", 80 + 21)


def test_nothing_is_granted_while_there_is_a_debt() -> None:
    """A pool that is over gives nothing, not even a unit."""
    pool = pool_of(10, s=10)
    mint(pool, 5)
    with pytest.raises(AssertionError):
        move_out(pool, "s", 11)


def test_a_return_before_the_end_pays_the_debt() -> None:
    """Before the end all that comes back is available again, less the debt."""
    pool = pool_of(10, s=10)
    mint(pool, 4)
    move_back(pool, "s", 9)
    assert (pool.available, pool.expired) == (3, 0)


def test_a_return_after_the_end_pays_the_debt_first_and_the_rest_expires() -> None:
    """Over by 6 at the end: of 9 that come back 6 pay and 3 expire, once."""
    pool = pool_of(10, s=10)
    mint(pool, 4)
    end(pool)
    move_back(pool, "s", 4)
    assert (pool.available, pool.expired) == (-2, 0)
    move_back(pool, "s", 9)
    move_back(pool, "s", 9)
    assert (pool.available, pool.expired) == (0, 3)


def test_what_is_available_at_the_end_expires() -> None:
    """The end moves what is available to expired, and a second end moves nothing."""
    pool = pool_of(10, s=4)
    end(pool)
    end(pool)
    assert (pool.available, pool.expired, pool.held) == (0, 6, 4)


def test_a_close_tells_exactly_what_is_still_held() -> None:
    """The books close after the end, with what is held elsewhere and nothing else."""
    pool = pool_of(10, s=4)
    with pytest.raises(AssertionError):
        close(pool, 4)
    end(pool)
    with pytest.raises(AssertionError):
        close(pool, 3)
    close(pool, 4)
    assert (pool.closed, pool.unreported) == (True, 4)


@given(amounts, st.lists(st.tuples(st.sampled_from("ab"), amounts)), st.booleans())
def test_movements_conserve_and_repeats_change_nothing(
    total: int, totals: list[tuple[str, int]], is_ended: bool
) -> None:
    """Running totals in any order keep the sum, and each is worth nothing the second time."""
    pool = pool_of(total, a=total // 3, b=total // 5) if total >= 5 else pool_of(total)
    if is_ended:
        end(pool)
    for place, moved in totals:
        back = min(moved, pool.peek(place).out)
        for _ in range(2):
            move_back(pool, place, back)
            assert pool.minted == pool.available + pool.held + pool.expired
