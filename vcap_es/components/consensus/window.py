"""How much of the log is at hand in memory, and how much of it goes to a follower at once."""

from msgspec import Struct

RECENT_ENTRIES = 4096
ENTRIES_PER_MESSAGE = 2000
ENTRIES_UNDER_WAY_MAX = 8 * ENTRIES_PER_MESSAGE


class LogWindow(Struct, frozen=True, kw_only=True):
    """Numbers of events.

    `recent` stay at hand for a follower that is a little late; older ones are fetched from the log.
    A message carries up to `message` of them. With `under_way` sent that the follower has not told
    to have, the next ones wait.
    """

    recent: int = RECENT_ENTRIES
    message: int = ENTRIES_PER_MESSAGE
    under_way: int = ENTRIES_UNDER_WAY_MAX


WINDOW = LogWindow()
