"""What the core of a volumecap server wants done, in order."""

from collections.abc import Iterable

from msgspec import Struct

from vcap_es.components.messages.server import FromServer
from vcap_es.components.volumecap_server.keys.records import FileBegun, KeyEntry
from vcap_es.components.volumecap_server.slices.journal import Entry


class SendToMaster(Struct, frozen=True, gc=False):
    """Send `message` to the primary master, if it is connected."""

    message: FromServer


class Write(Struct, frozen=True, gc=False):
    """Write one frame to the journal before anything after it in the outputs leaves.

    With a `ticket`, fsync it and call `written(ticket)`; with 0 it need only survive the process.
    """

    entries: list[Entry]
    ticket: int = 0


class WriteKeys(Struct, frozen=True, gc=False):
    """Write one frame to the key file; it need only survive the process.

    It must be there before any reply that comes after it leaves.
    """

    entries: list[KeyEntry]


class TurnKeys(Struct, frozen=True, gc=False):
    """Let the key file `number` be the one that is written from here on; it begins with `begun`."""

    number: int
    begun: FileBegun


class DropKeys(Struct, frozen=True, gc=False):
    """Nobody needs the key file `number` any more."""

    number: int


class RewriteKeys(Struct, frozen=True):
    """Write all of `pieces` into the key file `number`, by the side, and then say so.

    It must be there whole and durable, or not at all. What is written meanwhile goes elsewhere.
    """

    number: int
    pieces: Iterable[list[KeyEntry]]


class Reply(Struct, frozen=True, gc=False):
    """Answer the call `token`."""

    token: int
    outcome: object


class Abandon(Struct, frozen=True, gc=False):
    """This incarnation must not go on: its journal is not what the master has seen of it.

    It is the last output of all but for replies; nothing is written or sent after it.
    """

    reason: str


ServerOutput = (
    SendToMaster | Write | WriteKeys | TurnKeys | DropKeys | RewriteKeys | Reply | Abandon
)
