"""A life of one cap leads to what a fold over all of its events gives, wherever it was taken."""

from hypothesis import given
from hypothesis import strategies as st

from tests.support.lives import CAPS, lives, recorded
from vcap_es.events.facts import Fact
from vcap_es.projections.explanations import explain, reasons_of
from vcap_es.projections.history import fold_until
from vcap_es.projections.lives import CapLife
from vcap_es.projections.states.interval import Interval


@given(lives(), st.data())
def test_a_life_restored_anywhere_goes_on_as_if_it_was_read_whole(
    facts: list[Fact], data: st.DataObject
) -> None:
    """Balances, closed intervals and reasons are those of a plain fold over all events."""
    events = recorded(facts)
    cap = data.draw(st.sampled_from(CAPS))
    cuts = data.draw(st.sets(st.integers(0, max(len(events), 1)), max_size=4))
    # Given a life that is taken and restored at some of its events
    life, closed = CapLife(cap), dict[int, Interval]()
    reasons = {}
    for index, event in enumerate(events):
        if index in cuts:
            life = CapLife.restore(cap, life.take())
        life.feed(event)
        for each in life.closed:
            closed[each.interval.number] = each.interval
            reasons[each.interval.number] = reasons_of(each.interval, each.ledger.tallies, {})
        life.closed.clear()
    # Then it has the definition and the books of a plain fold
    plain = fold_until(events, cap=cap)
    assert life.meta == plain.state.metas.get(cap)
    both = {**closed, **{each.number: each for each in (life.meta.intervals if life.meta else ())}}
    assert [both[number] for number in sorted(both)] == plain.intervals(cap)
    # And the reasons that a reading of the whole life gives
    for each in life.meta.intervals if life.meta else ():
        reasons[each.number] = reasons_of(each, life.ledgers[each.number].tallies, {})
    assert reasons == {number: explain(events, cap, number=number) for number in both}
