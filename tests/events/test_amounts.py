from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcap_es.errors import InvalidAmount
from vcap_es.events.amounts import MAX_AMOUNT, check_amount, split

names = st.text("abcdxyz-", min_size=1, max_size=4)
amounts = st.integers(0, MAX_AMOUNT)
weights = st.dictionaries(names, st.integers(0, 20) | amounts, min_size=1, max_size=12).filter(
    lambda found: any(found.values())
)


@given(st.integers(1, MAX_AMOUNT))
def test_an_amount_in_range_passes(amount: int) -> None:
    """Every integer from 1 to 2**63 - 1 is an amount, and comes back as it is."""
    assert check_amount(amount) == amount


@pytest.mark.parametrize("value", [True, False, 1.0, "1", None, b"1", [1], 0, -1, MAX_AMOUNT + 1])
def test_anything_else_is_refused_by_name(value: object) -> None:
    """What is no amount is refused, and the message names it and the range."""
    with pytest.raises(InvalidAmount) as refusal:
        check_amount(value)
    assert repr(value) in str(refusal.value)
    assert f"from 1 to {MAX_AMOUNT}" in str(refusal.value)


def test_the_minimum_can_be_lowered_to_zero() -> None:
    """A total may be 0 where the caller says so, and still not below."""
    assert check_amount(0, minimum=0) == 0
    with pytest.raises(InvalidAmount, match="from 0 to"):
        check_amount(-1, minimum=0)


def test_a_giant_or_long_value_makes_a_short_message() -> None:
    """Neither an integer of many digits nor a long text fills the message, also when nested."""
    for value in (10**5000, [10**5000], "9" * 10_000):
        with pytest.raises(InvalidAmount) as refusal:
            check_amount(value)
        assert len(str(refusal.value)) < 300


def test_the_largest_remainder_gets_the_unit_that_is_left() -> None:
    """Shares are rounded down, and what is left goes to the largest fractions."""
    # 10 units over 5 : 3 : 1 are 5.55, 3.33 and 1.11: the one unit left goes to the first.
    assert split(10, {"berlin": 5, "dublin": 3, "oslo": 1}) == {
        "berlin": 6,
        "dublin": 3,
        "oslo": 1,
    }


def test_equal_fractions_go_by_name() -> None:
    """Of equal fractions the name that sorts first wins, in whatever order the weights come."""
    assert split(5, {"c": 1, "a": 1, "b": 1}) == {"a": 2, "b": 2, "c": 1}


@given(amounts, weights)
def test_the_parts_sum_to_the_total(total: int, by_name: dict[str, int]) -> None:
    """No unit is lost or made, and nobody is left out of the answer."""
    parts = split(total, by_name)
    assert sum(parts.values()) == total
    assert list(parts) == list(by_name)


@given(amounts, weights)
def test_each_part_is_its_exact_share_rounded(total: int, by_name: dict[str, int]) -> None:
    """A part is the exact share rounded down or up, so a weight of 0 gets nothing."""
    whole = sum(by_name.values())
    for name, part in split(total, by_name).items():
        exact_times_whole = total * by_name[name]
        assert exact_times_whole - whole < part * whole < exact_times_whole + whole
        assert by_name[name] or part == 0


@given(amounts, weights, st.randoms(use_true_random=False))
def test_order_does_not_matter(total: int, by_name: dict[str, int], random: object) -> None:
    """Two nodes that list the same weights in another order split alike."""
    shuffled = list(by_name.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    assert split(total, dict(shuffled)) == split(total, by_name)


@given(amounts, weights)
def test_a_larger_weight_gets_no_less(total: int, by_name: dict[str, int]) -> None:
    """Of two names, the one with the larger weight gets at least as much."""
    parts = split(total, by_name)
    by_weight = sorted(by_name, key=lambda name: by_name[name])
    for lighter, heavier in pairwise(by_weight):
        assert by_name[lighter] == by_name[heavier] or parts[lighter] <= parts[heavier]


@pytest.mark.parametrize(
    ("total", "by_name"),
    [(1, {}), (1, {"a": 0}), (0, {}), (-1, {"a": 1}), (1, {"a": -1, "b": 2}), (1, {"a": True})],
)
def test_a_split_that_has_no_answer_is_refused(total: int, by_name: dict[str, int]) -> None:
    """Without a positive weight, or with a wrong one, nothing is split."""
    with pytest.raises(InvalidAmount):
        split(total, by_name)
