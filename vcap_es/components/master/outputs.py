"""What a master wants done, and how it answers operators."""

from msgspec import Struct

from vcap_es.components.consensus.remark import Remark
from vcap_es.components.consensus.replica import Cut, Store
from vcap_es.components.consensus.voter import SaveBallot
from vcap_es.components.primary_master.outputs import (
    Acknowledge,
    Answer,
    Close,
    Fetch,
    Forward,
    Send,
    Spawn,
)


class Restart(Struct, frozen=True, gc=False):
    """Build this master anew from its ballot and its log: it knows more than is on them."""

    reason: str


class Renew(Struct, frozen=True, gc=False):
    """Set the log and the ballot aside and start as a new, empty node: this copy is not sound."""

    reason: str


class Halt(Struct, frozen=True, gc=False):
    """Stop for good: people must look."""

    reason: str


class Elsewhere(Struct, frozen=True, kw_only=True, gc=False):
    """This master does not lead; as far as it knows, `leader` does, at `address`; "": nobody."""

    leader: str
    address: str


class SwitchedOver(Struct, frozen=True, kw_only=True, gc=False):
    """Another master leads now, at `address`."""

    leader: str
    address: str


MasterOutput = (
    SaveBallot
    | Store
    | Cut
    | Fetch
    | Send
    | Close
    | Answer
    | Spawn
    | Forward
    | Acknowledge
    | Remark
    | Restart
    | Renew
    | Halt
)
