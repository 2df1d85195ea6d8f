"""Rows as text: aligned columns that a person can read and a diff can compare."""

from tests.projections.test_balances import OPENED
from tests.support.lives import recorded
from vcap_es.projections.statement import statement
from vcap_es.projections.wording import render


def test_columns_are_aligned_and_empty_ones_left_out() -> None:
    """Numbers stand to the right, texts to the left, and a column without a value is not there."""
    assert render([]) == ""
    text = render(statement(recorded(OPENED), "c"))
    assert text == (
        "position  at                    actor         what      number  server  amount"
        "  source     target     detail          available  held  spent  expired  unreported\n"
        "       1  2026-01-01T12:00:01Z  operator:ada  defined                        0"
        "                        100 a day, UTC\n"
        "       2  2026-01-01T12:00:02Z  operator:ada  opened         0             100"
        "  minted     available                        100     0      0        0           0\n"
        "       3  2026-01-01T12:00:03Z  operator:ada  topup          0  s           40"
        "  available  held                              60    40      0        0           0\n"
        "       4  2026-01-01T12:00:04Z  operator:ada  spent          0  s           30"
        "  held       spent                             60    14     26        0           0\n"
        "       4  2026-01-01T12:00:04Z  operator:ada  refunded       0  s            4"
        "  spent      held                              60    14     26        0           0\n"
        "       4  2026-01-01T12:00:04Z  operator:ada  refused        0  s            7"
        "                                               60    14     26        0           0\n"
        "       5  2026-01-01T12:00:05Z  operator:ada  return         0  s            5"
        "  held       available                         65     9     26        0           0\n"
    )
