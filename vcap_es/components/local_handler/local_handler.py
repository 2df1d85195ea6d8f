"""The local handler: grants slices of intervals to the volumecap servers of its data centre.

It takes servers' reports to the allocator of each interval, broadcasts intervals to those who watch
them, and composes what each server is told at the start of a commit round, so that it speaks of
everything decided before and leaves when that is durable.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import count, islice

from vcap_es.components.decisions.interval import next_begin
from vcap_es.components.local_handler.allocator import Allocator
from vcap_es.components.local_handler.demands import Left, PoolDemand
from vcap_es.components.local_handler.liveness import Liveness, Sighting
from vcap_es.components.local_handler.node_directory import masters_of, servers_of
from vcap_es.components.local_handler.other_centres import NoOtherCentres, OtherCentres
from vcap_es.components.local_handler.server_session import ServerSession
from vcap_es.components.local_handler.slice_holders import SliceHolders
from vcap_es.components.messages.server import (
    NEVER_BOUNDED,
    Broadcast,
    FromMaster,
    Grant,
    Grants,
    Hello,
    Holding,
    Keyring,
    NodeAddress,
    NodeDirectory,
    Notice,
    NoticeState,
    OpenInterval,
    Report,
    Watch,
)
from vcap_es.errors import SuspectServer
from vcap_es.events.facts import (
    Fact,
    HoldingRecovered,
    IntervalHeard,
    Spend,
    SpendReported,
    ToppedUp,
    TopupRecovered,
)
from vcap_es.projections.states.data_centre import DataCentre
from vcap_es.projections.states.interval import Interval, IntervalKey
from vcap_es.projections.states.meta import Meta

GRANTS_PER_MESSAGE = 2000
NOTICES_PER_MESSAGE = 2000
STRANGERS_PER_SERVER_MAX = 100_000
REMIND_US, REMINDERS_MAX = 500_000, 500
"""Every REMIND_US after it connects, a server is told of up to REMINDERS_MAX intervals that it
holds units of and has not reported.
"""


class LocalHandler:
    """The allocators of all intervals, and the servers that stand at them."""

    def __init__(
        self,
        state: DataCentre,
        record: Callable[[Fact], None],
        define_by_template: Callable[[str], bool],
        now: int,
    ) -> None:
        self.servers: dict[str, ServerSession] = {}
        self.doubt = ""
        self._state = state
        self._record = record
        self._define_by_template = define_by_template
        self._allocators: dict[IntervalKey, Allocator] = {}
        self._busy: dict[IntervalKey, None] = {}
        # Dictionaries, where sets would do: what goes by their order is the same in every process.
        self._watchers: dict[str, dict[str, None]] = {}
        self._by_connection: dict[int, str] = {}
        self._pending: dict[int, list[FromMaster]] = {}
        self._numbers = count(1)
        self._holders = SliceHolders(state)
        self._liveness = Liveness(now)
        self._liveness.expect(self._absent(now))
        self._directory_is_due = self._keyring_is_due = False
        self._asking: dict[str, None] = {
            cap: None for cap, meta in state.metas.items() if any(_unheard_bounds(meta, now))
        }
        self.abroad: OtherCentres = NoOtherCentres()

    def _absent(self, now: int) -> Iterator[Sighting]:
        """Whoever holds something should be here, though this master has not seen them yet."""
        for incarnation, keys in self._holders.everybody():
            if any(self._holds(incarnation, key) for key in keys):
                node = self._state.nodes.get(incarnation)
                name, address = (node.name, node.address) if node else ("", "")
                yield Sighting(incarnation, name, address, connected_at=None, seen_at=now)

    def _holds(self, incarnation: str, key: IntervalKey) -> bool:
        interval = self._state.interval(*key)
        return interval is not None and interval.pool.peek(incarnation).held > 0

    @property
    def sightings(self) -> Mapping[str, Sighting]:
        """The servers that are connected, and those that were, by incarnation: who is lost."""
        return self._liveness.sightings

    # what an allocator asks of its host

    @property
    def epoch(self) -> int:
        """The epoch that this master leads."""
        return self._state.epoch

    @property
    def may_lack_topups(self) -> bool:
        """Whether the log has lost acknowledged events, by a forced promotion."""
        return bool(self._state.primacy.forced)

    def was_given(self, incarnation: str) -> bool:
        """Whether something of what is not closed was ever moved to this incarnation."""
        return bool(self._holders.keys_of(incarnation))

    def doubt_log(self, why: str) -> None:
        """The log lacks what was acknowledged: the first reason tells people where to look."""
        self.doubt = self.doubt or why

    def _doubt_opening(self, incarnation: str, holding: Holding) -> None:
        """Units of an interval that was never opened here: it was by an end that is missing."""
        meta = self._state.metas.get(holding.cap)
        is_known = meta is not None and holding.number < meta.next_number
        if not is_known and incarnation not in self._state.primacy.readmitted:
            self.doubt_log(
                f"{incarnation} was given {holding.received} units of {holding.cap}, interval "
                f"{holding.number}, which this log has never opened: its end is missing"
            )

    def is_from_before(self, incarnation: str, allocator: Allocator) -> bool:
        """Whether a generation before the restore of this log may have dealt with it here.

        What this one opens has numbers of its own; another data centre goes on with the same ones.
        """
        if incarnation not in self._state.primacy.readmitted:
            return False
        interval = allocator.interval
        is_foreign = interval.sharing is not None and bool(interval.sharing.minter)
        return is_foreign or interval.number < self._state.first_number

    def may_come(self, allocator: Allocator, missing: int, now: int) -> bool:
        """Whether other data centres may have so many units more."""
        return self.abroad.may_come((allocator.cap, allocator.interval.number), missing, now)

    def left_elsewhere(self, allocator: Allocator) -> Left:
        """What other data centres may have."""
        return self.abroad.left((allocator.cap, allocator.interval.number))

    def is_scarce(self, allocator: Allocator) -> bool:
        """Whether the rest of the interval is gathered at one data centre."""
        return self.abroad.is_scarce((allocator.cap, allocator.interval.number))

    def reserved(self, allocator: Allocator, now: int) -> int:
        """Units that another data centre waits for, since before the servers here did."""
        return self.abroad.reserved((allocator.cap, allocator.interval.number), now)

    def may_be_freed(self, allocator: Allocator) -> bool:
        """Whether more of its period is on its way back, of an interval that has ended before."""
        meta = self._state.metas[allocator.cap]
        return allocator.interval.charged > 0 and any(
            account.held > 0 and self.is_connected(place)
            for each in meta.intervals
            if each.pool.ended
            for place, account in each.pool.places.items()
        )

    def record(self, fact: Fact) -> None:
        """Let `fact` become true."""
        self._record(fact)

    def tell(self, incarnation: str, allocator: Allocator) -> None:
        """Let a server hear how it stands with the interval of `allocator`, if connected."""
        server = self.servers.get(incarnation)
        if server is not None:
            server.tell[(allocator.cap, allocator.interval.number)] = None

    def is_connected(self, incarnation: str) -> bool:
        """Whether the incarnation has a connection now."""
        return incarnation in self.servers

    # what comes from servers

    def hello(self, connection: int, message: Hello, now: int) -> bool:
        """A server has connected; False where its incarnation is connected with other session.

        Two sessions of one incarnation at the same time mean a copied journal: the second is not
        let in. Raises SuspectServer where the connection is another incarnation's already.
        """
        known = self._by_connection.get(connection, message.incarnation)
        if known != message.incarnation:
            raise SuspectServer(f"{known} says hello as {message.incarnation}")
        before = self.servers.get(message.incarnation)
        if before is not None and before.session != message.session:
            return False
        if before is not None:
            self.goodbye(before.connection, now)
        self.servers[message.incarnation] = ServerSession(
            connection=connection,
            incarnation=message.incarnation,
            session=message.session,
            name=message.name,
            address=message.address,
            connected_at=now,
        )
        self._by_connection[connection] = message.incarnation
        self._liveness.came(message.incarnation, message.name, message.address, now)
        self._send(connection, self._keyring())
        self._directory_is_due = True
        self._await(self.servers[message.incarnation], now)
        return True

    def _await(self, server: ServerSession, now: int) -> None:
        """A server has to speak of everything that was ever moved to it and is not closed.

        It may have stopped before it heard, and would otherwise never come back for it.
        """
        server.reminded = dict.fromkeys(self._holders.keys_of(server.incarnation))
        server.remind_at = now + REMIND_US

    def _remind(self, server: ServerSession, now: int) -> None:
        """Tell a server of some of what it should have spoken of; of the rest another time."""
        if now < server.remind_at or not server.reminded:
            return
        server.remind_at = now + REMIND_US
        for key in list(islice(server.reminded, REMINDERS_MAX)):
            del server.reminded[key]
            server.announce[key[0]] = server.tell[key] = server.reminded[key] = None

    def goodbye(self, connection: int, now: int) -> None:
        """A connection is gone. Nothing is reclaimed: what the server holds stays held."""
        incarnation = self._by_connection.pop(connection, None)
        self._pending.pop(connection, None)
        if incarnation is None:
            return
        server = self.servers.pop(incarnation)
        self._liveness.left(incarnation, now)
        for cap in server.watches:
            self._unwatch(cap, incarnation)
        self._directory_is_due = True

    def watch(self, connection: int, message: Watch, now: int) -> None:
        """A server wants to hear of these caps from now on; an unknown one may match a template."""
        server = self._server(connection, now)
        server.echo_ns = max(server.echo_ns, message.sent_ns)
        for cap in message.caps:
            is_known = cap in self._state.metas or self._define_by_template(cap)
            if cap not in self._state.metas:
                server.strangers[cap] = None
            server.watches.add(cap)
            self._watchers.setdefault(cap, {})[server.incarnation] = None
            if is_known:  # else it is announced when the data centre that defines it has told
                server.announce[cap] = None
        while len(server.strangers) > STRANGERS_PER_SERVER_MAX:
            self._forget_stranger(server)

    def _forget_stranger(self, server: ServerSession) -> None:
        """Junk ids must not fill the memory: a server that is asked for it again asks again."""
        cap = next(iter(server.strangers))
        del server.strangers[cap]
        if cap not in self._state.metas:
            server.watches.discard(cap)
            self._unwatch(cap, server.incarnation)

    def _server(self, connection: int, now: int) -> ServerSession:
        """The server that says something on this connection."""
        incarnation = self._by_connection.get(connection)
        if incarnation is None:
            raise SuspectServer(f"connection {connection} has not said hello, or was replaced")
        self._liveness.spoke(incarnation, now)
        return self.servers[incarnation]

    def report(self, connection: int, message: Report, now: int) -> None:
        """A server tells what it has spent and returned, and what it needs."""
        server = self._server(connection, now)
        incarnation = server.incarnation
        if incarnation != message.incarnation:
            raise SuspectServer(f"{incarnation} reports for {message.incarnation}")
        server.echo_ns = max(server.echo_ns, message.sent_ns)
        news: list[Spend] = []
        touched: list[tuple[Allocator, Holding]] = []
        for holding in message.holdings:
            key = (holding.cap, holding.number)
            server.tell[key] = None
            server.reminded.pop(key, None)
            allocator = self._allocator(holding.cap, holding.number)
            if allocator is not None:
                news += allocator.hear(incarnation, connection, message.order, holding)
                touched.append((allocator, holding))
            elif holding.received and not self.may_lack_topups:
                self._doubt_opening(incarnation, holding)
        if news:
            self._record(SpendReported(incarnation=incarnation, entries=news))
        for allocator, holding in touched:
            allocator.take_back(incarnation, holding)
        for allocator, _ in touched:
            self._serve(allocator, now)
        for cap, version in message.heard:
            if cap in self._asking:
                server.heard[cap] = version
                self.settle(cap, now)

    # what comes from the log and the clock

    def changed(self, cap: str) -> None:
        """A meta or one of its intervals has changed: tell those who watch it."""
        for incarnation in self._watchers.get(cap, ()):
            self.servers[incarnation].announce[cap] = None

    def redefined(self, cap: str, now: int) -> None:
        """The definition of a cap has changed: tell those who watch it, and hear that they heard.

        Its pacing holds at once.
        """
        if self._watchers.get(cap) or any(_unheard_bounds(self._state.metas[cap], now)):
            self._asking[cap] = None
        self.changed(cap)
        self.repaced(cap, now)

    def unheard(self, cap: str) -> list[str]:
        """The connected servers that have not said that they serve by the newest definition."""
        return [each for each in self._watchers.get(cap, ()) if not self._has_heard(each, cap)]

    def _has_heard(self, incarnation: str, cap: str) -> bool:
        """Whether a server serves by the newest definition of a cap, as far as it has told."""
        server = self.servers.get(incarnation)
        if server is None:
            return False
        if cap not in self._asking:
            return True
        return server.heard.get(cap, NEVER_BOUNDED) >= self._state.metas[cap].version

    def holders(self, cap: str, now: int) -> dict[str, int]:
        """Who may serve units of a cap by an older definition, and until when at the latest.

        Instants are in microseconds UTC.
        """
        found: dict[str, int] = {}
        for interval in self._state.metas[cap].intervals:
            for place, account in interval.pool.places.items():
                may_serve = account.out > 0 and not account.final and now < interval.served_until
                if may_serve and not self._has_heard(place, cap):
                    found[place] = max(found.get(place, 0), interval.served_until)
        return found

    def settle(self, cap: str, now: int) -> None:
        """Servers have heard of a definition: nobody may serve by the bounds before it any more.

        Of what was opened here and sent away, the others must have said so too.
        """
        meta = self._state.metas[cap]
        for interval in list(_unheard_bounds(meta, now)):
            places = interval.pool.places.items()
            is_here = _is_foreign(interval) or not interval.pool.sent
            if (is_here or self.abroad.have_heard(cap)) and all(
                account.final or account.out == 0 or self._has_heard(place, cap)
                for place, account in places
            ):
                self._record(IntervalHeard(cap=cap, number=interval.number, at=now))
        if not self.unheard(cap) and not any(_unheard_bounds(meta, now)):
            self._asking.pop(cap, None)
            for server in self.servers.values():
                server.heard.pop(cap, None)
        self.abroad.heard(cap)

    def repaced(self, cap: str, now: int) -> None:
        """The definition of a cap has changed: its pacing holds at once."""
        for interval in self._state.metas[cap].intervals:
            allocator = self._allocators.get((cap, interval.number))
            if allocator is not None:
                self._serve(allocator, now)

    def total_changed(self, cap: str, number: int, now: int) -> None:
        """The total of an open interval has changed: old verdicts may be wrong."""
        allocator = self._allocator(cap, number)
        if allocator is not None:
            allocator.bump()
            self._serve(allocator, now)

    def demand(self, key: IntervalKey) -> PoolDemand:
        """What servers need, and would have ahead of need."""
        allocator = self._allocator(*key)
        return allocator.demand if allocator is not None else PoolDemand()

    def recall(self, key: IntervalKey, missing: int, now: int) -> bool:
        """Let servers give back units for another data centre; whether some have yet to answer."""
        allocator = self._allocator(*key)
        return allocator is not None and allocator.recall(missing, now)

    def resume(self, key: IntervalKey, now: int, *, has_more: bool) -> None:
        """Other data centres have given something, or will not for now: serve again."""
        allocator = self._allocator(*key)
        if allocator is not None:
            if has_more:
                allocator.bump()
            self._serve(allocator, now)

    def topped_up(self, fact: ToppedUp | TopupRecovered | HoldingRecovered) -> None:
        """An amount was moved to a server."""
        self._holders.add(fact.incarnation, (fact.cap, fact.number))

    def ended(self, cap: str, number: int, now: int) -> None:
        """An interval has ended: everybody who holds some of it must hear."""
        allocator = self._allocator(cap, number)
        if allocator is None:
            return
        for incarnation in allocator.interval.pool.places:
            self.tell(incarnation, allocator)
        self._serve(allocator, now)

    def closed(self, cap: str, number: int) -> None:
        """An interval is closed: its allocator goes, and its holders must hear."""
        key = (cap, number)
        self._allocators.pop(key, None)
        self._busy.pop(key, None)
        for incarnation in self._holders.close(key):
            server = self.servers.get(incarnation)
            if server is not None:
                server.tell[key] = None
                server.reminded.pop(key, None)

    def access_changed(self) -> None:
        """API keys were created or revoked: every server must hear."""
        self._keyring_is_due = True

    def nodes_changed(self) -> None:
        """A node told where it is reached: every server must hear."""
        self._directory_is_due = True

    def step(self, now: int) -> list[int]:
        """Look again at the allocators where time alone may change something.

        The connections of servers that are silent are given up, so that nobody waits for such a
        server: they are to be closed.
        """
        lost = self._liveness.step(now)
        self._directory_is_due |= bool(lost)
        silent = [self.servers[each] for each in lost if each in self.servers]
        for server in silent:
            self.goodbye(server.connection, now)
        for key in list(self._busy):
            self._serve(self._allocators[key], now)
        for server in self.servers.values():
            self._remind(server, now)
        return [server.connection for server in silent]

    @property
    def busy(self) -> bool:
        """Whether `step` is wanted soon."""
        return bool(self._busy)

    # what servers are told

    def whereabouts(self) -> list[NodeAddress]:
        """Where the nodes of this data centre are, and which servers are there."""
        servers = servers_of(self._state, self._liveness.sightings, self.is_connected)
        return [*masters_of(self._state), *servers]

    def compose(self, now: int) -> list[tuple[int, FromMaster]]:
        """Everything that servers are to be told of what is decided so far, by connection."""
        self._send_to_all()
        messages = [(each, message) for each, queue in self._pending.items() for message in queue]
        self._pending.clear()
        for server in self.servers.values():
            messages += [(server.connection, each) for each in self._compose(server, now)]
        return messages

    def _compose(self, server: ServerSession, now: int) -> list[FromMaster]:
        composed: list[FromMaster] = []
        while caps := list(islice(server.announce, NOTICES_PER_MESSAGE)):
            notices = [self._notice(cap, now) for cap in caps]
            composed.append(self._broadcast(server, notices, now))
            for cap in caps:
                del server.announce[cap]
        while keys := list(islice(server.tell, GRANTS_PER_MESSAGE)):
            composed.append(self._standing(server, keys, now))
            for key in keys:
                del server.tell[key]
        return composed

    def _broadcast(self, server: ServerSession, notices: list[Notice], now: int) -> Broadcast:
        return Broadcast(
            epoch=self.epoch,
            number=next(self._numbers),
            now=now,
            echo_ns=server.echo_ns,
            notices=notices,
        )

    def _standing(self, server: ServerSession, keys: list[IntervalKey], now: int) -> Grants:
        grants = [self._grant(server.incarnation, key) for key in keys]
        return Grants(
            epoch=self.epoch,
            number=next(self._numbers),
            incarnation=server.incarnation,
            now=now,
            echo_ns=server.echo_ns,
            grants=[grant for grant in grants if grant is not None],
        )

    def _grant(self, incarnation: str, key: IntervalKey) -> Grant | None:
        allocator = self._allocator(*key)
        if allocator is not None:
            return allocator.grant(incarnation)
        cap, number = key
        meta = self._state.metas.get(cap)
        is_unknown = meta is None and incarnation not in self._state.primacy.readmitted
        if is_unknown or (meta is not None and number >= meta.next_number):
            return None  # else it is closed, or what a generation before has opened alone
        return Grant(cap, number, 0, 0, 0, 0, True, True, (self.epoch, 0), None, None, 0)

    def _notice(self, cap: str, now: int) -> Notice:
        meta = self._state.metas.get(cap)
        if meta is None:
            return Notice(cap, "unknown", "", "hard", "asap", None, [])
        definition = meta.definition
        periods = [
            OpenInterval(
                each.number,
                each.start,
                each.end,
                _total(meta, each),
                each.bounded or NEVER_BOUNDED,
            )
            for each in meta.intervals
            if not each.pool.ended
        ]
        return Notice(
            cap,
            _notice_state(meta, now),
            definition.interval,
            definition.mode,
            definition.pacing,
            definition.group,
            periods,
            meta.version,
            cap in self._asking,
            next_begin(meta, now),
        )

    def _keyring(self) -> Keyring:
        return Keyring(epoch=self.epoch, keys=list(self._state.access.keys.values()))

    def _send_to_all(self) -> None:
        """However many come and go between two rounds, all are told once."""
        messages: list[FromMaster] = []
        if self._keyring_is_due:
            messages.append(self._keyring())
        if self._directory_is_due:
            messages.append(NodeDirectory(epoch=self.epoch, nodes=self.whereabouts()))
        self._keyring_is_due = self._directory_is_due = False
        for server in self.servers.values():
            for message in messages:
                self._send(server.connection, message)

    def _send(self, connection: int, message: FromMaster) -> None:
        self._pending.setdefault(connection, []).append(message)

    def _serve(self, allocator: Allocator, now: int) -> None:
        paced = self._state.metas[allocator.cap].definition.pacing == "even"
        if paced != allocator.paced:
            allocator.paced = paced
            allocator.bump()
        allocator.serve(now)
        key = (allocator.cap, allocator.interval.number)
        self.abroad.touch(key)
        if allocator.busy and not allocator.interval.pool.ended:
            self._busy[key] = None
        else:
            self._busy.pop(key, None)

    def _allocator(self, cap: str, number: int) -> Allocator | None:
        found = self._allocators.get((cap, number))
        if found is None:
            interval = self._state.interval(cap, number)
            if interval is None:
                return None
            paced = self._state.metas[cap].definition.pacing == "even"
            found = self._allocators[(cap, number)] = Allocator(cap, interval, paced, self)
        return found

    def _unwatch(self, cap: str, incarnation: str) -> None:
        watchers = self._watchers.get(cap, {})
        watchers.pop(incarnation, None)
        if not watchers:
            self._watchers.pop(cap, None)


def _total(meta: Meta, interval: Interval) -> int:
    """The total in force of an interval; another data centre's is not minted here."""
    return meta.total if _is_foreign(interval) else interval.total


def _is_foreign(interval: Interval) -> bool:
    """Whether another data centre has opened it."""
    return interval.sharing is not None and bool(interval.sharing.minter)


def _unheard_bounds(meta: Meta, now: int) -> Iterator[Interval]:
    """The intervals that may be served for longer than they last, by who has not heard of it."""
    for each in meta.intervals:
        if max(each.end, now) < each.until and (each.pool.sent or each.usage.units):
            yield each


def _notice_state(meta: Meta, now: int) -> NoticeState:
    if meta.retired:
        return "retired"
    if meta.paused:
        return "paused"
    open_ = [each for each in meta.intervals if not each.pool.ended]
    if any(each.start <= now for each in open_):
        return "active"
    if open_ or next_begin(meta, now):
        return "not_started"
    if meta.definition.end is not None and now >= meta.definition.end:
        return "over"
    return "active"
