"""Even pacing, shadow mode, templates, and caps that cannot be served now."""

from vcap_es.components.decisions.meta import DefineTemplate
from vcap_es.components.messages.client import Consume
from vcap_es.components.messages.outcomes import Consumed, Refused
from vcap_es.events.facts import Definition, MetaDefined
from vcap_es.sim.environment.site import NOON
from vcap_es.sim.world.invariants import watch
from vcap_es.sim.world.world import World

SECOND = 1_000_000


def code(answer: object) -> str:
    """The code of a refusal, or "" for a yes."""
    return answer.code if isinstance(answer, Refused) else ""


def test_an_evenly_paced_cap_is_never_ahead_of_its_release() -> None:
    """At every moment no more is served than the elapsed part of the interval has released."""
    world = World(3)
    watch(world)
    world.define("c", 600, interval="minute", pacing="even")
    served = 0
    for index in range(300):
        server = world.servers[index % 3]
        if isinstance(world.consume(server, "c", 1 + index % 3), Consumed):
            served += 1 + index % 3
        assert served <= 600 * (world.now_us - NOON) // (60 * SECOND)
        world.run(50_000)
    assert served > 100


def test_a_paced_refusal_says_when_to_come_back() -> None:
    """At the instant that it names the units are there, and just before it they are not."""
    world = World(2)
    watch(world)
    world.define("c", 60, interval="minute", pacing="even")
    world.run(5 * SECOND)
    world.take_all("c")
    for amount in (1, 4):
        refusal = world.consume(world.servers[0], "c", amount)
        assert isinstance(refusal, Refused)
        assert refusal.code == "paced"
        assert refusal.retry_after_ms is not None
        world.run(refusal.retry_after_ms * 1000 - 100_000)
        assert code(world.consume(world.servers[0], "c", amount)) == "paced"
        world.run(100_000)
        assert isinstance(world.consume(world.servers[0], "c", amount), Consumed)


def test_a_paced_cap_that_is_spent_is_capped() -> None:
    """More than the whole interval will release is capped; and so is all when it is spent."""
    world = World(1, now=NOON + 55 * SECOND)
    world.define("c", 60, interval="minute", pacing="even")
    server = world.servers[0]
    assert code(world.consume(server, "c", 61)) == "capped"
    assert isinstance(world.consume(server, "c", 50), Consumed)
    assert code(world.consume(server, "c", 11)) == "capped"
    assert code(world.consume(server, "c", 10)) == "paced"


def test_pacing_may_be_changed() -> None:
    """A cap whose pacing is lifted gives at once what was not released."""
    world = World(1)
    world.define("c", 60, interval="minute", pacing="even")
    assert code(world.consume(world.servers[0], "c", 50)) == "paced"
    world.define("c", 60, interval="minute")
    world.run(10_000)
    assert isinstance(world.consume(world.servers[0], "c", 50), Consumed)


def test_a_capped_refusal_says_when_the_interval_ends() -> None:
    """`retry_after_ms` of a capped consume leads into the next interval."""
    world = World(1, now=NOON + 55 * SECOND)
    world.define("c", 1, interval="minute")
    world.consume(world.servers[0], "c")
    refusal = world.consume(world.servers[0], "c")
    assert isinstance(refusal, Refused)
    assert refusal.retry_after_ms is not None
    assert world.now_us + refusal.retry_after_ms * 1000 >= NOON + 60 * SECOND
    world.run(refusal.retry_after_ms * 1000)
    assert isinstance(world.consume(world.servers[0], "c"), Consumed)


def test_a_shadow_cap_says_yes_and_counts_what_it_would_have_refused() -> None:
    """Above the total a shadow cap says yes, with what a hard one would have said."""
    world = World(1)
    world.define("c", 5, mode="shadow")
    server = world.servers[0]
    first, second = world.consume(server, "c", 5), world.consume(server, "c", 3)
    assert isinstance(first, Consumed)
    assert isinstance(second, Consumed)
    assert (first.shadow, second.shadow, second.consumed) == (None, "capped", 3)
    world.run(2 * SECOND)
    account = world.pool("c").peek(server.core.incarnation)
    assert (account.spent, account.refused) == (5, 3)


def test_an_unknown_cap_is_refused_and_served_once_it_is_defined() -> None:
    """A cap nobody has defined is unknown; the server hears of its definition by itself."""
    world = World(2)
    assert code(world.consume(world.servers[0], "c")) == "unknown_cap"
    world.define("c", 5)
    assert isinstance(world.consume(world.servers[0], "c"), Consumed)


def test_a_template_defines_a_cap_on_first_use() -> None:
    """The most specific template gives the cap its definition, once, wherever it is first used."""
    world = World(2)
    watch(world)
    world.command(DefineTemplate(match="*", definition=Definition(total=1)))
    world.command(DefineTemplate(match="user:*", definition=Definition(total=7)))
    assert world.take_all("user:1") == 7
    assert [fact.cap for fact in world.facts(MetaDefined)] == ["user:1"]


def test_a_cap_that_starts_later_is_refused_until_then() -> None:
    """Before its start it is not started, from its start on it is served, without other news."""
    world = World(1)
    start = NOON + 20 * SECOND
    world.define("c", 5, interval="minute", start=start)
    assert code(world.consume(world.servers[0], "c")) == "not_started"
    world.run(start + 100_000 - world.now_us)
    assert isinstance(world.consume(world.servers[0], "c"), Consumed)


def test_a_cap_that_is_over_is_refused() -> None:
    """After its end a cap is over, whatever is left of it."""
    world = World(1)
    end = NOON + 20 * SECOND
    world.define("c", 5, interval="single", end=end)
    assert isinstance(world.consume(world.servers[0], "c"), Consumed)
    world.run(30 * SECOND)
    assert code(world.consume(world.servers[0], "c")) == "ended"


def test_an_initial_total_is_for_the_first_period_that_is_cut_short() -> None:
    """A start within a period opens it with the initial total, and the next with the total."""
    start = NOON + 30 * SECOND
    world = World(1, now=start + SECOND)
    world.define("c", 10, interval="minute", start=start, initial_total=4)
    server = world.servers[0]
    assert isinstance(world.ask(server, Consume(cap="c", minimum=1, maximum=10)), Consumed)
    assert world.pool("c", 0).minted == 4
    assert world.pool("c", 1).minted == 10
