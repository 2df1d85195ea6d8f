"""Idempotency keys: whoever asks again with the same key is given the same answer, once."""

from vcap_es.components.commands import Command, Consume, Idempotency
from vcap_es.components.outcomes import Consumed, Refused
from vcap_es.sim.scenarios.small_world import taken, world_of
from vcap_es.sim.world import World


def ask(world: World, key: str, command: Command) -> object:
    """What a keyed call at the first server is answered."""
    idempotency = Idempotency(key=key, fingerprint=repr(command).encode())
    return world.ask(world.servers[0], command, idempotency)


def take(amount: int) -> Consume:
    """A consume of exactly this amount."""
    return Consume(cap="c", minimum=amount, maximum=amount)


def the_same_key_gives_the_same_answer() -> None:
    """A repeated call takes nothing again."""
    world = world_of(10)
    first = ask(world, "k", take(4))
    assert isinstance(first, Consumed)
    assert ask(world, "k", take(4)) == first
    assert world.take_all("c") == 6


def a_capped_key_stays_capped() -> None:
    """The verdict sticks to the key though the total is raised; a new key is served."""
    world = world_of(3)
    refused = ask(world, "k", take(4))
    assert isinstance(refused, Refused)
    world.define("c", 10)
    world.run(1_000_000)
    assert ask(world, "k", take(4)) == refused
    assert isinstance(ask(world, "l", take(4)), Consumed)


def an_unavailable_key_may_try_again() -> None:
    """What could not be known does not stick to the key."""
    world = world_of(10)
    taken(world, world.servers[0], 1)
    world.kill_master()
    refused = ask(world, "k", take(4))
    assert isinstance(refused, Refused)
    assert refused.code == "unavailable"
    world.start_master()
    world.run(100_000)
    assert isinstance(ask(world, "k", take(4)), Consumed)


def a_waiting_key_gets_the_first_calls_answer() -> None:
    """Calls that come while the first one waits are answered with it, and take nothing."""
    world = world_of(10)
    server = world.servers[0]
    key = Idempotency(key="k", fingerprint=b"same")
    tokens = [server.submit(take(4), key) for _ in range(3)]
    answers = [world.answer(server, token) for token in tokens]
    assert isinstance(answers[0], Consumed)
    assert answers == [answers[0]] * 3
    assert world.take_all("c") == 6
