"""A server serves from the linked master that leads the highest epoch that it has heard of."""

from vcap_es.components.volumecap_server.leader_tracker import LeaderTracker


def test_whoever_leads_the_highest_epoch_is_followed() -> None:
    """A later epoch wins, whichever line it comes on; an earlier one is never heard again."""
    followed = LeaderTracker()
    assert (followed.line, followed.epoch) == (None, 0)
    assert followed.leads(1, 4)
    assert followed.leads(2, 5)
    assert not followed.leads(1, 4)
    assert (followed.line, followed.epoch) == (2, 5)


def test_what_is_said_again_is_no_news() -> None:
    """Every message tells the epoch; only the first one of an epoch is a switch."""
    followed = LeaderTracker()
    assert [followed.leads(1, 4) for _ in range(3)] == [True, False, False]


def test_a_new_epoch_of_the_same_master_is_a_switch() -> None:
    """It has begun anew, and must be told everything."""
    followed = LeaderTracker()
    followed.leads(1, 4)
    assert followed.leads(1, 6)


def test_of_two_lines_to_one_leader_the_newer_is_followed() -> None:
    """They would else take turns with every message."""
    followed = LeaderTracker()
    assert followed.leads(1, 4)
    assert followed.leads(2, 4)
    assert not followed.leads(1, 4)
    assert followed.line == 2


def test_without_its_line_nobody_is_followed_until_somebody_leads_no_less() -> None:
    """The epoch is kept: a master that lost it in the meantime is not believed."""
    followed = LeaderTracker()
    followed.leads(2, 6)
    assert not followed.gone(1)
    assert followed.gone(2)
    assert not followed.gone(2)
    assert not followed.leads(1, 5)
    assert followed.line is None
    # The same leader on a new line, or an older line that it speaks on
    assert followed.leads(1, 6)
