"""What the core of a volumecap server wants done, in order."""

from msgspec import Struct

from vcap_es.components.journal_records import Entry
from vcap_es.components.messages import FromServer


class SendToMaster(Struct, frozen=True, gc=False):
    """Send `message` to the primary master, if it is connected."""

    message: FromServer


class Write(Struct, frozen=True, gc=False):
    """Write one frame to the journal before anything after it in the outputs leaves.

    With a `ticket`, fsync it and call `written(ticket)`; with 0 it need only survive the process.
    """

    entries: list[Entry]
    ticket: int = 0


class Reply(Struct, frozen=True, gc=False):
    """Answer the call `token`."""

    token: int
    outcome: object


class Abandon(Struct, frozen=True, gc=False):
    """This incarnation must not go on: its journal is not what the master has seen of it.

    It is the last output of all but for replies; nothing is written or sent after it.
    """

    reason: str


Output = SendToMaster | Write | Reply | Abandon
