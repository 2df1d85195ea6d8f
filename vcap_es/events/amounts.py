"""Amounts: whole units of a cap, checked at the door and split without loss."""

from collections.abc import Mapping

from vcap_es.errors import InvalidAmount
from vcap_es.events.facts.bounds import LONG_MAX
from vcap_es.shown import shown

MAX_AMOUNT = LONG_MAX


def check_amount(value: object, *, minimum: int = 1) -> int:
    """`value` itself, if it is an integer from `minimum` to `MAX_AMOUNT`.

    A bool, a float and a text that looks like a number are no amounts.

    Raises InvalidAmount, which names what came and the range.
    """
    # `type(...) is int`, because bool is a subclass of int and True is not an amount of 1.
    if type(value) is int and minimum <= value <= MAX_AMOUNT:
        return value
    raise InvalidAmount(
        f"an amount is an integer from {minimum} to {MAX_AMOUNT}, not {shown(value)}"
    )


def split(total: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Split `total` units by `weights`, so that the parts sum to `total` exactly.

    Largest remainder: each name gets its exact share rounded down, and the units that are left go
    one each to the largest fractions; of equal fractions the name that sorts first wins. A weight
    of 0 gets 0. The parts come in the order of `weights`, and do not depend on it.

    Raises InvalidAmount if `total` or a weight is not in `0 .. MAX_AMOUNT`, or no weight is
    above 0.
    """
    check_amount(total, minimum=0)
    whole = sum(check_amount(weight, minimum=0) for weight in weights.values())
    if whole == 0:
        raise InvalidAmount(f"a split of {total} needs at least one weight above 0")
    parts = {name: total * weight // whole for name, weight in weights.items()}
    left = total - sum(parts.values())
    by_fraction = sorted(weights, key=lambda name: (-(total * weights[name] % whole), name))
    for name in by_fraction[:left]:
        parts[name] += 1
    return parts
