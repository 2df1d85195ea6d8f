"""What masters and servers record under faults: the audit and the balances agree on all of it."""

from random import Random

import pytest

from tests.support.lives import recorded
from vcap_es.components.messages.client import Consume, Refund
from vcap_es.components.messages.outcomes import Consumed
from vcap_es.events.facts import Fact, Returned, SpendReported
from vcap_es.events.units import SECOND_US
from vcap_es.projections.audit import Audit
from vcap_es.projections.balances import amounts_of, balance_of
from vcap_es.projections.consumes import explain_consume
from vcap_es.projections.history import fold_until
from vcap_es.projections.statement import statement
from vcap_es.sim.environment.network import Faults
from vcap_es.sim.world.servers import ServerProcess
from vcap_es.sim.world.world import World


def lived(seed: int) -> tuple[list[Fact], list[str]]:
    """The log of some minutes with losses, repeats, crashes, refunds and changed totals.

    With it come the ids of the consumes that were answered.
    """
    random = Random(seed)
    faults = Faults(
        lose=random.choice([0, 10, 30]),
        repeat=random.choice([0, 20]),
        delay_us_max=random.choice([500, 20_000]),
    )
    world = World(3, seed=seed, faults=faults)
    for cap, total in (("c", 100), ("d", 1000)):
        world.define(cap, total, interval="minute")
    ids: list[str] = []
    for _ in range(100):
        _ask(world, random, random.choice(world.servers), ids)
        if random.random() < 0.02:
            world.define(random.choice("cd"), random.randint(1, 1500), interval="minute")
        if random.random() < 0.02:
            world.kill_master()
            world.start_master()
    world.run(200 * SECOND_US)
    return world.log, ids


def _ask(world: World, random: Random, server: ServerProcess, ids: list[str]) -> None:
    amount = random.randint(1, 7)
    command: Consume | Refund = Consume(cap=random.choice("cd"), minimum=amount, maximum=amount)
    if ids and random.random() < 0.2:
        command = Refund(id=random.choice(ids), amount=None)
    token = server.submit(command)
    world.run(random.randint(100, 200_000))
    outcome = server.answers.get(token)
    if isinstance(outcome, Consumed):
        ids.append(outcome.id)
    if random.random() < 0.03:
        server.kill()
        server.start(same_boot=True)


@pytest.mark.parametrize("seed", [3, 211, 219, 263])
def test_what_is_recorded_under_faults_is_true(seed: int) -> None:
    """The audit finds nothing, and recomputes the very balances that are shown."""
    # Given a log that was lived
    facts, ids = lived(seed)
    assert {Returned, SpendReported} <= set(map(type, facts))
    events = recorded(facts)
    # When it is audited
    audit = Audit()
    for event in events:
        audit.feed(event)
    history = fold_until(events)
    audit.compare(amounts_of(balance_of(meta) for meta in history.state.metas.values()))
    # Then nothing is found
    assert audit.findings == []
    # And every statement ends where the balance is
    for cap in "cd":
        balance = history.balance(cap)
        assert balance is not None
        for interval in balance.intervals:
            *_, last = statement(events, cap, interval.number)
            assert (last.spent, last.held, last.expired) == (
                interval.spent,
                interval.held,
                interval.expired,
            )
    # And every consume that was answered yes is accounted for
    for consume in ids:
        assert explain_consume(events, consume).status in {"reported", "unreported"}
