"""A definition that changes while several data centres serve it: once answered, it holds in all."""

from vcap_es.components.decisions.meta import Define, MoveHome, Pause, Retire
from vcap_es.components.messages.client import Cancel, Hold
from vcap_es.components.messages.outcomes import Held, Refused, Settled
from vcap_es.components.meta_handler import OperatorCommand
from vcap_es.components.primary_master.outputs import Done
from vcap_es.events.facts import Definition, IntervalHeard
from vcap_es.sim.scenarios.small_world import SECOND
from vcap_es.sim.world.centres import MailConditions, SimulatedCentres

ANSWER_US = 10 * SECOND


def an_answered_end_holds_in_every_data_centre() -> None:
    """The answer to an earlier end comes when the servers of all data centres have heard."""
    # Given two data centres that have units, and between which messages take long
    centres = _shared()
    centres.post = MailConditions(delay_us=(300_000, 300_000))
    # When the end is moved to now, and that is answered
    now = centres["a"].now_us
    done = _ordered(centres, "a", Define(cap="c", definition=_definition(end=now)))
    assert done.unheard == []
    # Then nobody serves any more, and nobody counts as serving on
    for world in centres.worlds.values():
        [server] = world.servers
        assert server.core.consume_now("c", 1, server.now_ns) is None
        refusal = world.consume(server, "c")
        assert isinstance(refusal, Refused)
        assert refusal.code == "ended"
    assert centres["a"].facts(IntervalHeard)


def a_data_centre_that_was_not_reached_is_named() -> None:
    """An answered change names the data centre that may serve on, and until when."""
    centres = _shared()
    last = _last_end(centres)
    centres.cut = {("a", "b"), ("b", "a")}
    done = _ordered(centres, "a", Retire(cap="c"))
    assert [(each.centre, each.server, each.until) for each in done.unheard] == [("b", "", last)]


def a_data_centre_whose_server_was_not_reached_is_named() -> None:
    """A data centre has not heard before its servers have: one of them may serve on."""
    centres = _shared()
    last = _last_end(centres)
    [server] = centres["b"].servers
    centres["b"].cut.add(server.name)
    server.disconnect()
    done = _ordered(centres, "a", Pause(cap="c"))
    assert [(each.centre, each.server, each.until) for each in done.unheard] == [("b", "", last)]


def a_carried_change_names_who_was_not_reached() -> None:
    """What the home has answered is answered wherever it was asked."""
    centres = _shared(("a", "b", "c"))
    last = _last_end(centres)
    centres.cut = {("a", "c"), ("c", "a"), ("b", "c"), ("c", "b")}
    done = _ordered(centres, "b", Retire(cap="c"))
    assert [(each.centre, each.server, each.until) for each in done.unheard] == [("c", "", last)]


def who_leads_next_asks_anew() -> None:
    """A data centre that was cut off counts as serving on until it has told, whoever leads then."""
    centres = _shared()
    home = centres["a"]
    centres.cut = {("a", "b"), ("b", "a")}
    _ordered(centres, "a", Define(cap="c", definition=_definition(interval="hour")))
    assert home.state.metas["c"].intervals[0].until > home.now_us
    home.kill_master()
    home.start_master()
    centres.cut = set()
    centres.run(10 * SECOND)
    assert home.facts(IntervalHeard)


def what_an_earlier_home_has_opened_ends_with_the_definition() -> None:
    """An end holds for all that has heard of it, though who opened the interval has not."""
    # Given a cap that has moved on, and an earlier home that nobody reaches
    centres = _shared(("a", "b", "c"))
    last = _last_end(centres)
    _ordered(centres, "a", MoveHome(cap="c", to="b"))
    centres.run(2 * SECOND)
    centres.cut = {pair for each in "bc" for pair in (("a", each), (each, "a"))}
    # When the new home moves the end to now
    now = centres["b"].now_us
    done = _ordered(centres, "b", Define(cap="c", definition=_definition(end=now)))
    # Then the earlier one is named, and nobody else serves any more
    assert [(each.centre, each.until) for each in done.unheard] == [("a", last)]
    for name in "bc":
        refusal = centres[name].consume(centres[name].servers[0], "c")
        assert isinstance(refusal, Refused)
        assert refusal.code == "ended"


def _shared(names: tuple[str, ...] = ("a", "b"), **fields: object) -> SimulatedCentres:
    """Data centres that have a share of `c` each, and a server that has idle units of it."""
    centres = SimulatedCentres(names, seed=1)
    command = Define(cap="c", definition=_definition(**fields))
    _ordered(centres, "a", command)
    centres.run(SECOND)
    for world in centres.worlds.values():
        [server] = world.servers
        held = world.ask(server, Hold(cap="c", amount=10, lifetime_ms=1000))
        assert isinstance(held, Held), held
        assert isinstance(world.ask(server, Cancel(id=held.id)), Settled)
    centres.run(2 * SECOND)
    return centres


def _last_end(centres: SimulatedCentres) -> int:
    """When the last period ends of which there is a share at all data centres."""
    return max(each.end for each in centres["a"].state.metas["c"].intervals)


def _definition(**fields: object) -> Definition:
    return Definition(**{"total": 100, "placement": "even", **fields})  # type: ignore[arg-type]  # the caller's fields


def _ordered(centres: SimulatedCentres, at: str, command: OperatorCommand) -> Done:
    """An operator's command, and its answer."""
    world = centres[at]
    token = world.order(command)
    for _ in range(ANSWER_US // 10_000):
        centres.run(10_000)
        if token in world.command_answers:
            answer = world.command_answers[token]
            assert isinstance(answer, Done), answer
            return answer
    raise AssertionError(f"{command} was not answered")
