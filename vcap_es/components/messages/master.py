"""The typed messages between masters, and between a master and its witnesses.

None of them is ever believed for its time: what makes primacy safe are epochs, positions and
links. All may be lost, repeated or come late.
"""

from msgspec import Struct

from vcap_es.components.decisions.primacy import Config
from vcap_es.events.chain import Stored
from vcap_es.events.clusters import ClusterName
from vcap_es.events.facts.bounds import Count, Long, Total

BYTES_PER_MESSAGE = 4 * 1024 * 1024


class Greeting(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """A master introduces itself on a connection. `stamp` counts its starts.

    `cluster` is the one that it belongs to, "" where it has an empty store and joins.
    `utc` is its wall clock in microseconds, 0 where it does not tell: only people are told of it.
    """

    protocol: Long
    node: str
    slot: Long
    name: str
    address: str
    stamp: Count
    cluster: ClusterName = ""
    utc: Total = 0


class Leading(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The sender leads `epoch` of `cluster`: whoever knows of no later one reports to it."""

    epoch: Count
    node: str
    cluster: ClusterName = ""


class Prevote(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Would you promise `epoch` to me? `transfer` is the epoch whose leader asked me to lead."""

    epoch: Count
    transfer: Count


class Prepare(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Promise `epoch` to me: accept nothing of a lower one from now on."""

    epoch: Count
    transfer: Count


class Promise(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Yes to a `Prevote` (then `is_firm` is false, and nothing is promised) or to a `Prepare`.

    With the configuration that the voter accepted last, and the highest position that it knows to
    be committed.
    """

    epoch: Count
    is_firm: bool
    config: Config
    committed: Total


class Refusal(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """No: the sender has promised `promised`, or follows a leader that it hears."""

    epoch: Count
    promised: Count


class Accept(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Hold this configuration."""

    config: Config


class Accepted(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The sender holds the configuration of that epoch and version, durably."""

    epoch: Count
    version: Count


class Heartbeat(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The sender leads `epoch`; everything up to the position `committed` is committed."""

    epoch: Count
    committed: Total
    sent_ns: Total


class HeartbeatAnswer(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Heard, and no higher epoch is promised. `sent_ns` is that of the heartbeat."""

    epoch: Count
    sent_ns: Total


class Append(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Copy these events after the position `after`, whose event has the link `link`.

    `prior` is the epoch of that event.
    `sequence` counts the messages of an epoch to one follower, so that an answer tells what it
    answers. Without entries it asks whether the follower has the event at `after`.
    """

    epoch: Count
    sequence: Count
    after: Total
    prior: Count
    link: bytes
    entries: list[Stored]
    committed: Total


class Appended(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The sender's log is the leader's up to `position`, durably; nothing higher is promised."""

    epoch: Count
    sequence: Count
    position: Total


class Mismatch(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The sender has no such event. `history` are (epoch, its last position) of its own log."""

    epoch: Count
    sequence: Count
    history: list[tuple[Count, Total]]


class Diverged(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The sender set aside `count` events after `after`, the last of which had `link`."""

    epoch: Count
    after: Total
    count: Total
    link: bytes


class Transfer(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Lead now: the leader of `epoch` has stopped and you have everything."""

    epoch: Count


ToVoter = Prevote | Prepare | Accept | Heartbeat
FromVoter = Promise | Refusal | Accepted | HeartbeatAnswer
BetweenMasters = (
    Greeting | Leading | Append | Appended | Mismatch | Diverged | Transfer | ToVoter | FromVoter
)
