"""Never one too many, and never one left behind."""

from random import Random

from vcap_es.components.decisions.meta import Pause, Resume, Retire
from vcap_es.components.messages.client import Consume
from vcap_es.components.messages.outcomes import Consumed, Refused
from vcap_es.events.facts import IntervalClosed
from vcap_es.sim.environment.network import Faults
from vcap_es.sim.scenarios.small_world import idle
from vcap_es.sim.world.invariants import watch
from vcap_es.sim.world.servers import ServerProcess
from vcap_es.sim.world.world import World

SECOND = 1_000_000


def served(world: World) -> int:
    """The units that all clients were given."""
    answers = [each for server in world.servers for each in server.answers.values()]
    return sum(each.consumed for each in answers if isinstance(each, Consumed))


def crowd(world: World, cap: str, calls: int, amount_max: int = 1) -> None:
    """Many callers at random servers."""
    random = Random(7)
    for _ in range(calls):
        amount = random.randint(1, amount_max)
        random.choice(world.servers).submit(Consume(cap=cap, minimum=amount, maximum=amount))
        world.run(100)
    world.run(SECOND)


def test_a_hundred_servers_serve_a_cap_exactly() -> None:
    """A hundred servers and random callers: exactly the total is consumed, nothing is stranded."""
    world = World(100, faults=Faults(delay_us_max=300, fsync_us_max=200))
    world.define("c", 10_000)
    crowd(world, "c", 13_000)
    assert served(world) == 10_000
    world.run(2 * SECOND)
    pool = world.pool("c")
    assert (pool.available, pool.held) == (0, 0)
    assert sum(each.spent for each in pool.places.values()) == 10_000


def test_bad_links_cost_time_but_no_unit() -> None:
    """With every third message lost and many repeated and late, the total is still exact."""
    faults = Faults(lose=30, repeat=20, delay_us_max=20_000, fsync_us_max=2000)
    world = World(5, seed=3, faults=faults)
    watch(world)
    world.define("c", 100)
    crowd(world, "c", 300)
    world.faults = Faults()
    world.run(2 * SECOND)
    world.take_all("c")
    assert served(world) == 100


def test_a_total_is_changed_while_it_is_served() -> None:
    """The total goes up and down under load: never more than the largest, in the end the last."""
    world = World(4, seed=1)
    watch(world)
    world.define("c", 300)
    crowd(world, "c", 200)
    world.define("c", 500)
    crowd(world, "c", 200)
    world.define("c", 450)
    crowd(world, "c", 400)
    assert served(world) == 450


def test_a_lowered_total_is_a_debt_and_not_a_clamp() -> None:
    """Of 100, 80 are spent; lowered to 50 and raised to 100, 20 more are served and not 50."""
    world = World(3)
    watch(world)
    world.define("c", 100)
    for index in range(80):
        assert isinstance(world.consume(world.servers[index % 3], "c"), Consumed)
    # When the total falls below what is spent
    world.define("c", 50)
    world.run(SECOND)
    # Then nothing is left, and the pool owes what is over
    assert world.take_all("c") == 0
    assert world.pool("c").available == -30
    # When it is raised again
    world.define("c", 100)
    assert world.take_all("c") == 20


def test_nothing_is_served_after_retirement() -> None:
    """A cap that is retired under load serves nothing more, and its books close exactly."""
    world = World(3)
    watch(world)
    world.define("c", 1000)
    crowd(world, "c", 100)
    world.command(Retire(cap="c"))
    world.run(SECOND)
    before = served(world)
    refusal = world.consume(world.servers[0], "c")
    assert isinstance(refusal, Refused)
    assert refusal.code == "ended"
    assert served(world) == before == 100
    world.run(70 * SECOND)
    assert [fact.unreported for fact in world.facts(IntervalClosed)] == [0, 0]


def test_a_pause_stops_and_a_resume_goes_on() -> None:
    """While a cap is paused all are refused; resumed, exactly the rest is served."""
    world = World(3)
    watch(world)
    world.define("c", 50)
    crowd(world, "c", 20)
    world.command(Pause(cap="c"))
    world.run(SECOND)
    assert world.take_all("c") == 0
    world.command(Resume(cap="c"))
    assert world.take_all("c") == 30


def test_two_who_hold_a_part_are_not_both_refused() -> None:
    """Two servers hold 3 each and both are asked for 5: one is served by recall, one capped."""
    world = World(2)
    watch(world)
    world.define("c", 6)
    for server in world.servers:
        idle(world, server, 3)
    tokens = [
        (server, server.submit(Consume(cap="c", minimum=5, maximum=5))) for server in world.servers
    ]
    answers = [world.answer(server, token) for server, token in tokens]
    assert sorted(type(each).__name__ for each in answers) == ["Consumed", "Refused"]
    refused = next(each for each in answers if isinstance(each, Refused))
    assert refused.code == "capped"
    assert world.take_all("c") == 1


def test_the_last_units_are_found_wherever_they_lie() -> None:
    """Ten servers fill their slices; one last caller gets every unit that is left anywhere."""
    world = World(10, seed=5)
    watch(world)
    world.define("c", 1000)
    for server in world.servers:
        for _ in range(7):
            assert isinstance(world.consume(server, "c"), Consumed)
    assert world.take_all("c", world.servers[:1]) == 930
    assert world.take_all("c") == 0


def test_as_much_as_there_is() -> None:
    """A consume of 1 to 10 takes what there is; with less than its minimum it takes nothing."""
    world = World(2)
    watch(world)
    world.define("c", 13)
    one, other = world.servers
    assert taken(world, one, 1, 10) == 10
    assert taken(world, other, 4, 10) == 0
    assert taken(world, other, 2, 10) == 3
    assert taken(world, one, 1, 10) == 0


def taken(world: World, server: ServerProcess, minimum: int, maximum: int) -> int:
    """The units that such a consume gets; 0 when it is capped."""
    answer = world.ask(server, Consume(cap="c", minimum=minimum, maximum=maximum))
    if isinstance(answer, Refused):
        assert answer.code == "capped"
        return 0
    assert isinstance(answer, Consumed)
    return answer.consumed
