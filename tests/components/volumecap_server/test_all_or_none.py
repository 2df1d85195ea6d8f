"""Several caps in one consume: all or none, and each by itself."""

from vcap_es.components.decisions.meta import Pause
from vcap_es.components.messages.client import Cancel, Consume, ConsumeAll, ConsumeEach, Hold
from vcap_es.components.messages.outcomes import Consumed, ConsumedAll, ConsumedEach, Held, Refused
from vcap_es.sim.world.invariants import watch
from vcap_es.sim.world.world import World


def items(*wanted: tuple[str, int]) -> list[Consume]:
    """Consumes of exactly these amounts."""
    return [Consume(cap=cap, minimum=amount, maximum=amount) for cap, amount in wanted]


def world_of(**totals: int) -> World:
    """Two servers, and caps of these totals."""
    world = World(2)
    watch(world)
    for cap, total in totals.items():
        world.define(cap, total)
    return world


def test_all_are_taken_in_the_order_asked() -> None:
    """The answers are in the order of the items, each with its own id."""
    world = world_of(a=10, b=10)
    answer = world.ask(world.servers[0], ConsumeAll(items=items(("b", 3), ("a", 2))))
    assert isinstance(answer, ConsumedAll)
    assert [(each.cap, each.consumed) for each in answer.items] == [("b", 3), ("a", 2)]


def test_none_is_taken_when_one_is_refused() -> None:
    """A refusal of one item names its cap, and nothing of the others is spent or kept back."""
    world = world_of(a=10, b=2)
    answer = world.ask(world.servers[0], ConsumeAll(items=items(("a", 3), ("b", 3))))
    assert isinstance(answer, Refused)
    assert (answer.code, answer.cap) == ("capped", "b")
    assert world.take_all("a") == 10
    assert world.take_all("b") == 2


def test_two_in_opposite_orders_do_not_wait_for_each_other() -> None:
    """One asks for a and b, one for b and a, where there is enough for both or for one."""
    for total, expected in ((4, 2), (3, 1)):
        world = world_of(a=total, b=total)
        tokens = [
            (server, server.submit(ConsumeAll(items=items(*wanted))))
            for server in world.servers
            for wanted in ([("a", 2), ("b", 2)], [("b", 2), ("a", 2)])
        ]
        answers = [world.answer(server, token) for server, token in tokens]
        assert sum(isinstance(each, ConsumedAll) for each in answers) == expected
        assert world.take_all("a") == world.take_all("b") == total - 2 * expected


def test_what_is_set_aside_comes_free_when_the_other_cap_does_not_answer() -> None:
    """While the second cap cannot be had the first is set aside, for a moment only."""
    world = world_of(a=5)
    server = world.servers[0]
    held = world.ask(server, Hold(cap="a", amount=3, lifetime_ms=1000))
    assert isinstance(held, Held)
    world.ask(server, Cancel(id=held.id))
    world.cut.add("s0")
    server.disconnect()
    answer = world.ask(server, ConsumeAll(items=items(("a", 1), ("z", 1))))
    assert isinstance(answer, Refused)
    assert (answer.code, answer.cap) == ("unavailable", "z")
    assert all(found.pinned == 0 for found in server.core.holdings.slices.values())


def test_what_is_set_aside_may_come_free_and_is_waited_for() -> None:
    """Nobody is capped over units that another call may still let go."""
    world = world_of(a=1)
    server = world.servers[0]
    token = server.submit(ConsumeAll(items=items(("a", 1), ("z", 1))))
    world.run(300)
    single = server.submit(Consume(cap="a", minimum=1, maximum=1))
    assert isinstance(world.answer(server, token), Refused)
    assert isinstance(world.answer(server, single), Consumed)


def test_a_long_queue_of_refusals_does_not_nest() -> None:
    """Thousands that wait for the same two caps are refused one after the other."""
    world = world_of(a=1, b=0)
    server = world.servers[0]
    tokens = [server.submit(ConsumeAll(items=items(("a", 1), ("b", 1)))) for _ in range(3000)]
    assert all(isinstance(world.answer(server, token), Refused) for token in tokens)
    assert world.take_all("a") == 1


def test_a_shadow_cap_does_not_hold_up_the_others() -> None:
    """A shadow cap that would refuse says so, and the hard caps are consumed."""
    world = world_of(a=5)
    world.define("b", 0, mode="shadow")
    answer = world.ask(world.servers[0], ConsumeAll(items=items(("a", 2), ("b", 3))))
    assert isinstance(answer, ConsumedAll)
    assert [each.shadow for each in answer.items] == [None, "capped"]
    assert world.take_all("a") == 3


def test_an_interval_that_ends_meanwhile_is_not_spent() -> None:
    """Units set aside in one interval are not spent in it after its end, but anew in the next."""
    world = World(1, now=1_767_268_858_000_000)
    watch(world)
    world.define("a", 5, interval="minute")
    world.define("b", 0, interval="minute")
    server = world.servers[0]
    world.consume(server, "a")
    world.run(1_990_000)
    # When the first cap is set aside just before the end and the second comes after it
    token = server.submit(ConsumeAll(items=items(("a", 2), ("b", 1))))
    world.run(30_000)
    world.define("b", 5, interval="minute")
    answer = world.answer(server, token)
    spent = {
        number: found.spent(server.disk.cells)
        for (cap, number), found in server.core.holdings.slices.items()
        if cap == "a"
    }
    assert spent[0] == 1
    if isinstance(answer, ConsumedAll):
        assert spent[1] == 2


def test_each_of_a_batch_has_its_own_answer() -> None:
    """Independent consumes are answered in the order asked, whatever becomes of the others."""
    world = world_of(a=10, b=1)
    world.define("p", 10)
    world.command(Pause(cap="p"))
    batch = ConsumeEach(items=items(("b", 2), ("a", 4), ("x", 1), ("p", 1), ("b", 1)))
    answer = world.ask(world.servers[0], batch)
    assert isinstance(answer, ConsumedEach)
    codes = [each.code if isinstance(each, Refused) else each.consumed for each in answer.items]
    assert codes == ["capped", 4, "unknown_cap", "paused", 1]
    assert isinstance(answer.items[1], Consumed)
