"""Nothing grows without a bound, and nothing is looked at again and again for no reason."""

from collections import Counter

import msgspec
import pytest

from vcap_es.components import meta_handler
from vcap_es.components.decisions.meta import DefineTemplate
from vcap_es.components.interval_handler import IntervalHandler
from vcap_es.components.local_handler import local_handler
from vcap_es.components.messages.client import Consume
from vcap_es.components.messages.encoding import decode_at_master, encode
from vcap_es.components.messages.outcomes import Consumed, Level, Refused
from vcap_es.components.messages.server import Holding, Report
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.components.volumecap_server.slices.slice import NO_SLOT
from vcap_es.events.amounts import MAX_AMOUNT
from vcap_es.events.facts import Definition
from vcap_es.sim.environment.site import NOON
from vcap_es.sim.world.invariants import watch
from vcap_es.sim.world.world import World

SECOND = 1_000_000


def test_served_consumes_do_not_count_as_waiting() -> None:
    """Only those that wait now are counted against the bound, and they are bounded."""
    world = World(1, limits=Limits(waiting_max=10))
    world.define("c", 100)
    server = world.servers[0]
    for _ in range(30):
        assert isinstance(world.consume(server, "c"), Consumed)
    world.kill_master()
    server.core.holdings.slices.clear()
    tokens = [server.submit(Consume(cap="x", minimum=1, maximum=1)) for _ in range(15)]
    at_once = [server.answers[token] for token in tokens if token in server.answers]
    assert len(at_once) == 5
    world.run(100_000)
    assert all(isinstance(server.answers[token], Refused) for token in tokens)
    assert not server.core.holdings.table.watched["x"].waiters


def test_junk_ids_do_not_fill_the_memory() -> None:
    """Of caps that nobody defined, a server and its master remember so many only."""
    world = World(1, limits=Limits(strangers_max=50))
    server = world.servers[0]
    world.define("real", 5)
    world.consume(server, "real")
    for index in range(200):
        server.submit(Consume(cap=f"junk{index}", minimum=1, maximum=1))
        world.run(3000)
    assert len(server.core.holdings.table.watched) <= 52
    assert isinstance(world.consume(server, "real"), Consumed)
    # A cap that was forgotten is served when it is defined after all
    world.define("junk0", 1)
    assert isinstance(world.consume(server, "junk0"), Consumed)


def test_a_master_forgets_the_oldest_strangers(monkeypatch: object) -> None:
    """A server that watches more unknown caps than that still hears when it asks again."""
    monkeypatch.setattr(local_handler, "STRANGERS_PER_SERVER_MAX", 10)  # type: ignore[attr-defined]  # pytest's
    world = World(1)
    server = world.servers[0]
    for index in range(30):
        assert isinstance(world.consume(server, f"junk{index}"), Refused)
    assert world.master is not None
    assert len(world.master.locals.servers[server.core.incarnation].watches) <= 10
    world.define("junk0", 1)
    world.run(2 * SECOND)
    world.consume(server, "junk0")
    world.run(100_000)
    assert isinstance(world.consume(server, "junk0"), Consumed)


def test_intervals_that_were_never_used_leave_nothing_behind() -> None:
    """A server that watches a cap by the minute has two slices of it, also after an hour."""
    world = World(1, limits=Limits(refund_window_ms=100))
    world.define("c", 10, interval="minute")
    server = world.servers[0]
    world.consume(server, "c")
    for _ in range(5):
        world.run(61 * SECOND)
        assert len(server.core.holdings.slices) <= 2
    assert len(server.core.holdings.alarms) < 20


def test_a_journal_without_room_refuses_and_gives_back() -> None:
    """With all slots in use further caps are unavailable, and units sent for them return."""
    world = World(1, limits=Limits(slots_max=2))
    watch(world)
    server = world.servers[0]
    for cap in ("a", "b", "c"):
        world.define(cap, 10)
    assert isinstance(world.consume(server, "a"), Consumed)
    assert isinstance(world.consume(server, "b"), Consumed)
    refusal = world.consume(server, "c")
    assert isinstance(refusal, Refused)
    assert refusal.code == "unavailable"
    found = server.core.holdings.slices[("c", 0)]
    assert found.slot == NO_SLOT
    server.restart()
    world.run(100_000)
    assert isinstance(world.consume(server, "a"), Consumed)


def test_lookups_are_answered_once_and_bounded() -> None:
    """A lookup is answered by the master's word or at its deadline, and never twice."""
    world = World(1, limits=Limits(waiting_max=10))
    world.define("c", 10)
    server = world.servers[0]
    server.core.lookup(1, "c", server.now_ns)
    server.flush()
    assert isinstance(world.answer(server, 1), Level)
    world.kill_master()
    for token in range(100, 120):
        server.core.lookup(token, "c", server.now_ns)
    server.flush()
    assert sum(token in server.answers for token in range(100, 120)) == 10
    world.run(100_000)
    assert all(token in server.answers for token in range(100, 120))
    answered = dict(server.answers)
    server.answers.clear()
    world.start_master()
    world.run(SECOND)
    assert answered
    assert not server.answers


def test_many_come_and_go_and_are_told_once() -> None:
    """Between two rounds, the directory is sent once to each server."""
    world = World(30)
    world.run(SECOND)
    assert world.master is not None
    master = world.master
    for server in world.servers[:20]:
        master.disconnected(server.connection)
    started = master.begin_round(world.now_us)
    assert started is not None
    assert len(started.outputs) == 10


def test_looking_later_does_not_pile_up() -> None:
    """However often a cap is looked at, it has one entry among what is due."""
    world = World(1)
    world.define("c", 10)
    assert world.master is not None
    handler = IntervalHandler(world.state, lambda _: None, NOON)
    for _ in range(100):
        handler.look_later("c")
        assert handler.next_due(world.now_us) == world.now_us
        handler.step(world.now_us)
    assert len(handler._heap) <= 2


def test_refusals_are_counted_as_far_as_a_cell_can_count() -> None:
    """Asking for more than there is costs nothing, so nobody may end a server by asking."""
    world = World(1)
    world.define("c", 5)
    server = world.servers[0]
    assert isinstance(world.consume(server, "c"), Consumed)
    for _ in range(3):
        refused = world.consume(server, "c", MAX_AMOUNT)
        assert isinstance(refused, Refused)
        assert refused.code == "capped"
    world.run(2 * SECOND)
    assert max(server.disk.cells) == MAX_AMOUNT
    [account] = world.pool("c").places.values()
    assert account.refused == MAX_AMOUNT


def test_what_the_log_cannot_keep_is_not_understood() -> None:
    """A total beyond 63 bits ends the link that told it, not the master."""
    holding = Holding("c", 0, 5, 0, 5, 0, MAX_AMOUNT + 1, 0, 0, False, (0, 0))
    report = Report(incarnation="i", order=(1, 1), sent_ns=1, holdings=[holding])
    with pytest.raises(msgspec.ValidationError):
        decode_at_master(encode(report))


def test_templates_define_no_more_caps_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for ever new ids fills neither the memory nor the log."""
    monkeypatch.setattr(meta_handler, "CAPS_MAX", 3)
    world = World(1)
    world.command(DefineTemplate(match="user:*", definition=Definition(total=5)))
    tokens = [
        world.servers[0].submit(Consume(cap=f"user:{each}", minimum=1, maximum=1))
        for each in range(5)
    ]
    world.run(100_000)
    answers = [world.servers[0].answers[token] for token in tokens]
    assert Counter(map(type, answers)) == {Consumed: 3, Refused: 2}
    assert world.master is not None
    assert len(world.master.state.metas) == 3


def test_a_slice_whose_cells_have_no_room_on_the_disk_is_refused() -> None:
    """The cap is unavailable, others are served; with room on the disk it is served as well."""
    # Given
    world = World(1)
    watch(world)
    server = world.servers[0]
    journal_writer = server.core.holdings.journal_writer
    for cap in ("a", "b"):
        world.define(cap, 10)
    assert isinstance(world.consume(server, "a"), Consumed)
    # When
    journal_writer._has_room = lambda slots: slots <= 1
    refusal = world.consume(server, "b")
    # Then
    assert isinstance(refusal, Refused)
    assert (refusal.code, refusal.cap) == ("unavailable", "b")
    assert isinstance(world.consume(server, "a"), Consumed)
    journal_writer._has_room = lambda _: True
    assert isinstance(world.consume(server, "b"), Consumed)
