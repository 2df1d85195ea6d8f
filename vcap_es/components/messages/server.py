"""The typed messages between a master and the volumecap servers of its data centre.

`Report` and `Grants` carry all amounts, as running totals merged by maximum, so losing,
repeating or reordering them changes nothing but time. The others say who is there, which
intervals exist, and which API keys are good.
"""

from typing import Literal

from msgspec import Struct

from vcap_es.events.clusters import ClusterName
from vcap_es.events.facts import ApiKeyCreated, Version
from vcap_es.events.facts.bounds import Count, Long, Total
from vcap_es.events.facts.node import Role

PROTOCOL = 3

NEVER_BOUNDED = Version(0, 0)
"""The version of bounds that an interval was opened with."""

MessageNumber = tuple[Count, Count]
"""(start counter of the journal, number of the message since that start): newer is larger."""

RecallRoundId = tuple[Count, Count]
"""(epoch, number of the recall round in it)."""

PoolVersion = tuple[Count, Count]
"""(epoch, version of the pool in it): a verdict of an older version is not held against newer."""


class Hello(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """A server introduces itself, once per connection. `address` is its client plane's URL.

    `voter` is the node that its ballot is for, "" where it is no witness; `stamp` counts starts.
    `cluster` is the one that its journal belongs to, "" where it is new.
    `utc` is its wall clock in microseconds, 0 where it does not tell: only people are told of it. A
    witness has heard that the log of the cluster is `committed` up to this position.
    """

    protocol: Long
    incarnation: str
    session: str
    name: str
    address: str
    voter: str = ""
    stamp: Count = 0
    cluster: ClusterName = ""
    utc: Total = 0
    committed: Total = 0


class Watch(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Tell me of the intervals of these caps, now and whenever they change."""

    caps: list[str]
    sent_ns: Total


class Holding(Struct, frozen=True, array_like=True, gc=False):
    """What a server has and wishes of one interval.

    `received` is the running total that it has seen; `returned` and `refunded` only what its last
    fsynced record has. `need` is the total that serves its first waiting consume (0: none), `want`
    the total of its low-water mark, `queued` the total that serves all its waiting consumes.
    `answered` is the last recall round fully answered, `version` the newest of the pool that was
    heard.
    """

    cap: str
    number: Total
    received: Total
    returned: Total
    spent: Total
    refunded: Total
    refused: Total
    need: Total
    want: Total
    final: bool
    answered: RecallRoundId
    queued: Total = 0
    version: PoolVersion = (0, 0)


class Report(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """A server tells of many intervals at once. `sent_ns` is its own boot clock at sending.

    `heard` are the versions of definitions that it serves by from now on, where it was asked.
    """

    incarnation: str
    order: MessageNumber
    sent_ns: Total
    holdings: list[Holding]
    heard: list[tuple[str, Version]] = []


class Unheard(Struct, frozen=True, kw_only=True):
    """A server may serve by an older definition until `until`, in microseconds UTC.

    `server` is its incarnation, and `name` the name that it was known by, "" for none. It is of the
    data centre `centre`; where there is no `server`, that has not said that its own have heard.
    """

    server: str
    name: str
    until: Total
    centre: str = ""


class Verdict(Struct, frozen=True, array_like=True, gc=False):
    """Elsewhere there were at most `rest` units, having seen `returned` from you, at `version`.

    A paced cap's verdict ends at `until`, microseconds UTC, when the next unit is released, if one
    will be; 0 otherwise. Where it is `counted_out`, more may be in other data centres, and cannot
    be moved here any more, as a running total is at its bound.
    """

    rest: Total
    returned: Total
    version: PoolVersion
    until: Total = 0
    counted_out: bool = False


class Grant(Struct, frozen=True, array_like=True, gc=False):
    """Where a server stands with the pool of one interval.

    All but `recall` and `verdict` are running totals. `recall` asks the server to return until
    the running total is the target. `available` is what the pool has, for people to read, and
    `withheld` what counts as spent since the log was restored; after a report that was `final`,
    nothing changes here any more. Of refunds up to the running total `free` everybody has heard who
    was refused before.
    """

    cap: str
    number: Total
    moved: Total
    returned: Total
    spent: Total
    refunded: Total
    ended: bool
    closed: bool
    version: PoolVersion
    recall: tuple[RecallRoundId, Total] | None
    verdict: Verdict | None
    available: Total
    final: bool = False
    withheld: Total = 0
    free: Total = 0


class Grants(Struct, frozen=True, kw_only=True, tag="Standing", gc=False):
    """A master's answer to reports.

    `number` is that of the message in the epoch: newer is larger. `now` is its clock in
    microseconds UTC; `echo_ns` the newest `sent_ns` it has from this server.
    """

    epoch: Count
    number: Count
    incarnation: str
    now: Total
    echo_ns: Total
    grants: list[Grant]


class OpenInterval(Struct, frozen=True, array_like=True, gc=False):
    """An interval that exists: its number and its bounds in microseconds UTC.

    The bounds are those of `version`: of a newer one they hold, whatever was heard before.
    """

    number: Total
    start: Total
    end: Total
    total: Total
    version: Version = NEVER_BOUNDED


NoticeState = Literal["active", "unknown", "retired", "paused", "not_started", "over"]


class Notice(Struct, frozen=True, array_like=True, gc=False):
    """What a cap is, and the intervals that it has open; an unknown cap has no periods.

    `version` is that of its definition; who is asked (`asks`) tells that it was heard. `begins` is
    when it serves next, in microseconds UTC, where it does not now and that is known; 0 otherwise.
    """

    cap: str
    state: NoticeState
    interval: str
    mode: str
    pacing: str
    group: str | None
    periods: list[OpenInterval]
    version: Version = NEVER_BOUNDED
    asks: bool = False
    begins: Total = 0


class Broadcast(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Intervals that a server watches were opened, changed or ended; numbered like `Grants`."""

    epoch: Count
    number: Count
    now: Total
    echo_ns: Total
    notices: list[Notice]


class Keyring(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """All API keys in force; they replace what the server had."""

    epoch: Count
    keys: list[ApiKeyCreated]


class Readmitted(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """This incarnation, which is of the cluster `was`, belongs to `cluster` from now on.

    An operator has said so, and it is on the log: the cluster was restored from a backup of `was`.
    """

    incarnation: str
    was: ClusterName
    cluster: ClusterName


Presence = Literal["connected", "away", "lost", ""]
"""How a node was seen: linked now, not linked, or not for a while; "" where who tells cannot know.
"""


class NodeAddress(Struct, frozen=True, array_like=True, gc=False):
    """A node and its address, the URL where it is reached, as it told in its start `stamp`."""

    node: str
    name: str
    role: Role
    address: str
    stamp: Count
    presence: Presence


class NodeDirectory(Struct, frozen=True, kw_only=True, tag="Directory", gc=False):
    """The nodes of the data centre; they replace what the server had.

    They are its masters, its connected servers, and those servers that went last.
    """

    epoch: Count
    nodes: list[NodeAddress]


FromServer = Hello | Watch | Report
FromMaster = Grants | Broadcast | Keyring | NodeDirectory
