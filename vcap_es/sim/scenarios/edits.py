"""A definition that changes while it lives: a period is minted once, an answered change holds."""

from vcap_es.components.decisions.meta import Define, Pause, Resume, Retire
from vcap_es.components.messages.client import Consume, Idempotency, Refund
from vcap_es.components.messages.outcomes import Consumed, Refunded, Refused
from vcap_es.components.primary_master.outputs import Done
from vcap_es.events.facts import Definition
from vcap_es.sim.environment.network import Faults
from vcap_es.sim.environment.site import NOON
from vcap_es.sim.scenarios.small_world import SECOND, idle, refused, taken, until, world_of
from vcap_es.sim.world.invariants import watch
from vcap_es.sim.world.world import World


def a_cap_that_is_defined_again_has_its_rest() -> None:
    """What was served before it was retired is not served again in that period."""
    world = world_of(10)
    taken(world, world.servers[0], 7)
    world.command(Retire(cap="c"))
    world.define("c", 10)
    assert world.take_all("c") == 3


def what_is_on_its_way_back_is_waited_for() -> None:
    """Nobody is refused while a server gives back what it has of the interval before."""
    world = world_of(10)
    idle(world, world.servers[0], 10)
    world.order(Retire(cap="c"))
    world.order(Define(cap="c", definition=Definition(total=10)))
    taken(world, world.servers[1], 10)


def what_was_closed_is_not_forgotten() -> None:
    """The rest of a period counts what it served before, also when those books are closed."""
    world = world_of(10)
    taken(world, world.servers[0], 7)
    world.command(Retire(cap="c"))
    world.run(90 * SECOND)
    assert world.state.interval("c", 0) is None
    world.define("c", 10)
    assert world.take_all("c") == 3


def what_goes_on_counts_for_what_begins_later() -> None:
    """The rest of a day that begins later has what an interval of it, open until then, does not."""
    # Given a cap that ends soon, and is to begin again later in the day
    world = world_of(10)
    taken(world, world.servers[0], 1)
    world.define("c", 10, end=world.now_us + 2 * SECOND)
    world.define("c", 10, start=world.now_us + 4 * SECOND)
    # When some more is served before that end
    taken(world, world.servers[0], 6)
    world.run(5 * SECOND)
    # Then the rest of the day has what is left
    assert world.take_all("c") == 3


def hours_count_against_the_day_that_they_are_of() -> None:
    """After a change of calendar the new period is the whole one."""
    world = world_of(10)
    world.define("c", 10, interval="minute")
    assert world.take_all("c") == 10
    world.run(90 * SECOND)
    assert world.take_all("c") == 10
    world.define("c", 30, interval="day")
    assert world.take_all("c") == 10


def a_day_is_not_carried_on_as_an_hour() -> None:
    """A server with units of a day may not spend them in an hour that has fewer."""
    world = world_of(100)
    for server in world.servers:
        idle(world, server, 50)
    world.define("c", 10, interval="hour")
    assert world.take_all("c") == 10
    world.now_us += 3600 * SECOND
    world.run(SECOND)
    assert world.take_all("c") == 10


def who_has_not_heard_counts_wherever_it_may_serve() -> None:
    """A server out of reach serves a day on: what it has counts in every hour of that day."""
    # Given a server with 8 units of the day, which nobody can reach
    world = world_of(10)
    away, here = world.servers
    idle(world, away, 8)
    world.cut.add("s0")
    away.disconnect()
    # When the cap becomes an hourly one, and another hour comes
    world.define("c", 10, interval="hour")
    world.now_us += 3600 * SECOND
    world.run(SECOND)
    # Then both together serve no more than an hour has
    assert world.take_all("c", [here]) == 2
    assert world.take_all("c", [away]) == 8


def nobody_serves_after_an_end_that_was_answered() -> None:
    """The answer to an earlier end comes when all servers have heard of it."""
    # Given two servers with units, to which messages take long
    world = world_of(100)
    for server in world.servers:
        idle(world, server, 40)
    world.faults = Faults(delay_us_max=40_000)
    # When the end is moved to now, and that is answered
    ended = Define(cap="c", definition=Definition(total=100, end=world.now_us))
    token = world.order(ended)
    until(world, lambda: token in world.command_answers)
    answer = world.command_answers[token]
    assert isinstance(answer, Done)
    assert answer.unheard == []
    # Then no server serves any more
    for server in world.servers:
        assert server.core.consume_now("c", 1, server.now_ns) is None
        assert refused(world, server, 1) == "ended"


def an_earlier_end_is_heard() -> None:
    """A server that knew of a later end serves until the newer one."""
    world = world_of(100)
    server = world.servers[0]
    idle(world, server, 40)
    world.define("c", 100, end=world.now_us + 5 * SECOND)
    taken(world, server, 1)
    # Given that nobody tells it when that end comes
    world.cut.add("s0")
    server.disconnect()
    world.run(6 * SECOND)
    assert refused(world, server, 1) == "unavailable"


def who_was_not_reached_is_named() -> None:
    """An answered change names the server that may serve on, and until when."""
    world = world_of(100)
    away = world.servers[0]
    idle(world, away, 40)
    last = world.state.metas["c"].intervals[0].end
    world.cut.add("s0")
    away.disconnect()
    answer = world.command(Retire(cap="c"))
    assert isinstance(answer, Done)
    assert [(each.name, each.until) for each in answer.unheard] == [("s0", last)]
    assert last > NOON


def an_answered_refund_can_be_had_at_once() -> None:
    """Who was refused before serves what is refunded elsewhere, from the answer on."""
    # Given a server that was told that nothing is left, and to which messages take long
    world = world_of(1)
    here, there = world.servers
    consumed = taken(world, here, 1)
    assert refused(world, there, 1) == "capped"
    world.faults = Faults(delay_us_max=20_000)
    # When what was served here is refunded
    assert isinstance(world.ask(here, Refund(id=consumed.id)), Refunded)
    # Then nobody is told that nothing is left
    answer = world.consume(there, "c")
    assert isinstance(answer, Consumed | Refused)
    assert isinstance(answer, Consumed) or answer.code == "unavailable", answer


def who_was_capped_asks_anew_after_the_period() -> None:
    """The same key is served in the next period, and refused the same way until then."""
    world = World(1, now=NOON + 55 * SECOND)
    watch(world)
    world.define("c", 1, interval="minute")
    server = world.servers[0]
    taken(world, server, 1)
    command, key = Consume(cap="c", minimum=1, maximum=1), Idempotency(key="k", fingerprint=b"k")
    for _ in range(2):
        answer = world.ask(server, command, key)
        assert isinstance(answer, Refused)
        assert answer.code == "capped"
    world.run(7 * SECOND)
    served = world.ask(server, command, key)
    assert isinstance(served, Consumed), served
    assert world.ask(server, command, key) == served


def a_paused_cap_says_so() -> None:
    """Nobody is told to come again after the interval; and it goes on where it was."""
    world = world_of(10)
    taken(world, world.servers[0], 4)
    world.command(Pause(cap="c"))
    for server in world.servers:
        assert refused(world, server, 1) == "paused"
    world.command(Resume(cap="c"))
    assert world.take_all("c") == 6
