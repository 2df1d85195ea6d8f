"""What a primary master wants done, in order."""

from msgspec import Struct

from vcap_es.components.messages.centre import (
    BetweenCentres,
)
from vcap_es.components.messages.master import BetweenMasters
from vcap_es.components.messages.server import (
    FromMaster,
    Readmitted,
    Unheard,
)
from vcap_es.events.envelope import Draft
from vcap_es.events.facts import (
    Fact,
)


class Fetch(Struct, frozen=True, gc=False):
    """Read up to `limit` events after the position `after`, for the follower `node` of `epoch`."""

    epoch: int
    node: str
    after: int
    limit: int


class Done(Struct, frozen=True, kw_only=True, gc=False):
    """A command holds, durably at `position`; no facts where it was so already.

    It holds everywhere but at the servers and the data centres that are `unheard`.
    """

    facts: list[Fact]
    position: int
    unheard: list[Unheard] = []


class Send(Struct, frozen=True, gc=False):
    """Send `message` on `connection`."""

    connection: int
    message: FromMaster | Readmitted | BetweenMasters


class Close(Struct, frozen=True, gc=False):
    """Close `connection`, telling the other side why."""

    connection: int
    reason: str


class Answer(Struct, frozen=True, gc=False):
    """Answer the call `token`."""

    token: int
    outcome: object


class Spawn(Struct, frozen=True, gc=False):
    """Start a secondary master in `slot`; `spawn` names this attempt."""

    slot: int
    spawn: str


class Forward(Struct, frozen=True, gc=False):
    """Send `message` to the data centre `centre`."""

    centre: str
    message: BetweenCentres


class Acknowledge(Struct, frozen=True, gc=False):
    """What came from another data centre as `delivery` is durable, with all that follows."""

    delivery: int


PrimaryOutput = Send | Close | Answer | Spawn | Forward | Acknowledge


class ForwardedBy(Struct, frozen=True, gc=False):
    """Who wants to hear of a command: the data centre that has carried it here as `number`."""

    centre: str
    number: int


class CommitRound(Struct, frozen=True, kw_only=True):
    """One group commit: what to append, and what leaves when it is durable."""

    drafts: list[Draft]
    outputs: list[PrimaryOutput]
    commands: list[tuple[int | ForwardedBy, int, int]]
