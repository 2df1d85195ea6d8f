"""Facts of primacy: who is the primary master, at which epoch, and who holds what it acknowledged.

Nodes are named by their ids, but for the leader of an epoch. An id is made with an empty store, so
who lost its store is another node.
"""

from msgspec import Struct

from vcap_es.events.facts.bounds import Long


class ClusterCreated(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """This log began, in data centre `dc`, with `master` as its only voter."""

    cluster: str
    dc: str
    master: str


class EpochStarted(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The master called `leader` writes this log from here on; earlier epochs write no more."""

    epoch: Long
    leader: str


class ConfigDecided(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The voters hold this value of the register: the masters in `isr` have all that was answered.

    It is here for auditors; the register itself is with the voters.
    """

    epoch: Long
    version: Long
    isr: list[str]
    voters: list[str]


class SecondarySpawned(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The primary found no secondary and started one in `slot`, on its own `host`."""

    slot: Long
    spawn: str
    host: str


class SwitchoverStarted(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """An operator let the primary stop and hand over to the master `to`."""

    to: str


class DivergenceTruncated(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """`node` set aside `count` events after position `after`; nobody was ever told of them.

    The last of them had `link`.
    """

    node: str
    after: Long
    count: Long
    link: bytes


class PromotionForced(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Two operators let `leader` lead, which may lack acknowledged events.

    `isr` are the masters that had them all, `committed` the highest position known to have been
    acknowledged.
    """

    leader: str
    approved_by: list[str]
    isr: list[str]
    committed: Long


class LogRestored(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """This log goes on from a backup that ended at `position`, as another generation: `cluster`.

    `was` is the cluster that the backup is of; whatever that recorded later is not here, `lacks`
    events of it as far as was known, None where nobody could tell. `master` is the only voter.
    """

    cluster: str
    was: str
    master: str
    position: Long
    restored_at: Long
    lacks: Long | None = None


class ServerReadmitted(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """A server of the generation `was` belongs to this one from now on, with what it holds."""

    incarnation: str
    name: str
    was: str


class WithholdingEnded(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Two operators let nothing more be withheld, whatever the generations before have served."""

    approved_by: list[str]
