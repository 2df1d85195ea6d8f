"""Whatever integers a node tells, no process ends by them, and other caps are served."""

from typing import Any

import msgspec
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from msgspec import inspect, msgpack

from vcap_es.components.messages.centre import BetweenCentres, Sender
from vcap_es.components.messages.client import Consume
from vcap_es.components.messages.encoding import (
    decode_at_master,
    decode_at_server,
    decode_between_centres,
)
from vcap_es.components.messages.outcomes import Consumed
from vcap_es.components.messages.server import FromMaster, FromServer
from vcap_es.events.amounts import MAX_AMOUNT
from vcap_es.events.codec import decode, encode
from vcap_es.events.facts import Fact
from vcap_es.events.facts.bounds import COUNT_MAX
from vcap_es.events.instants import LAST_INSTANT
from vcap_es.sim.environment.site import NOON
from vcap_es.sim.world.centres import SimulatedCentres
from vcap_es.sim.world.world import World

SECOND = 1_000_000
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""A life is not shrunk: each takes a second."""

INTEGERS = (
    *(-(2**63), -1, 0, 1, 2, 5, 2**31, COUNT_MAX, COUNT_MAX + 1),
    *(MAX_AMOUNT - 1, MAX_AMOUNT, MAX_AMOUNT + 1, 2**64 - 1),
    *(NOON, NOON + 60 * SECOND, LAST_INSTANT, LAST_INSTANT + 1),
)
KNOWN = {
    "cap": ("c",),
    "incarnation": (World(2).servers[0].core.incarnation,),
    "centre": ("a", "b"),
    "minter": ("a", "b"),
    "home": ("a", "b", ""),
}
"""Values of fields by their names."""

TEXTS = ("c", "a", "b", "user:*", "UTC", "local", "even", "day", "", "me")


def built(kind: inspect.Type) -> "st.SearchStrategy[Any]":
    """Values of a type as MessagePack has them, with integers at all bounds and beyond."""
    match kind:
        case inspect.IntType():
            within = [each for each in INTEGERS if _is_within(kind, each)]
            return st.one_of(*[st.sampled_from(within)] * 40, st.sampled_from(INTEGERS))
        case inspect.StrType():
            return st.sampled_from(TEXTS)
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.BytesType():
            return st.just(b"\0" * 16)
        case inspect.LiteralType():
            return st.sampled_from(list(kind.values))
        case inspect.ListType():
            return st.lists(built(kind.item_type), max_size=2)
        case inspect.VarTupleType():
            return st.lists(built(kind.item_type), max_size=2)
        case inspect.TupleType():
            return st.tuples(*map(built, kind.item_types)).map(list)
        case inspect.DictType():
            return st.dictionaries(built(kind.key_type), built(kind.value_type), max_size=2)
        case inspect.UnionType():
            return st.one_of(*map(built, kind.types))
        case inspect.StructType():
            return _struct(kind)
    raise AssertionError(f"no values of {kind} are made here")


def _is_within(kind: inspect.IntType, value: int) -> bool:
    low, high = kind.ge, kind.le
    return (low is None or value >= low) and (high is None or value <= high)


def _field(field: inspect.Field) -> "st.SearchStrategy[Any]":
    """What is told of names is mostly of something that is there."""
    if field.name in KNOWN:
        return st.sampled_from(KNOWN[field.name])
    return st.deferred(lambda: built(field.type))


def _struct(kind: inspect.StructType) -> "st.SearchStrategy[Any]":
    fields = {each.encode_name: _field(each) for each in kind.fields}
    if kind.array_like:
        return st.tuples(*fields.values()).map(list)
    made = st.fixed_dictionaries(fields)
    if kind.tag_field is None:
        return made
    return made.map(lambda value: {**value, kind.tag_field: kind.tag})


def of(union: Any) -> "st.SearchStrategy[list[bytes]]":
    """A few messages of these kinds, encoded."""
    message = built(inspect.type_info(union)).map(msgpack.encode)
    return st.lists(message, min_size=1, max_size=12)


@settings(max_examples=60, deadline=None, phases=PHASES)
@given(told=of(FromServer))
def test_nothing_that_a_server_tells_ends_a_master(told: list[bytes]) -> None:
    """It is not understood, or refused with its connection; another server is served."""
    # Given
    world = World(2)
    world.may_abandon = True
    for cap in ("c", "beside"):
        world.define(cap, MAX_AMOUNT)
    liar, honest = world.servers
    world.consume(liar, "c", 3)
    # When
    for data in told:
        leader = world.leader
        assert leader is not None
        assert leader.core is not None
        try:
            message = decode_at_master(data)
        except msgspec.ValidationError:
            continue
        if liar.is_running:
            leader.core.heard(liar.connection, message, leader.moment)
        leader.flush()
        world.run(SECOND // 10)
    # Then
    world.run(SECOND)
    assert isinstance(world.consume(honest, "beside", 1), Consumed)
    assert world.replay().state == world.state


@settings(max_examples=60, deadline=None, phases=PHASES)
@given(told=of(FromMaster))
def test_nothing_that_a_master_tells_ends_a_server(told: list[bytes]) -> None:
    """It is taken in or not understood, and what is asked of the server is answered."""
    # Given
    world = World(1)
    world.may_abandon = True
    for cap in ("c", "beside"):
        world.define(cap, MAX_AMOUNT)
    server = world.servers[0]
    world.consume(server, "c", 3)
    # When
    for data in told:
        try:
            message = decode_at_server(data)
        except msgspec.ValidationError:
            continue
        if not server.is_running:
            return
        server.core.received(message, server.now_ns)
        server.flush()
        server.submit(Consume(cap="c", minimum=1, maximum=1))
        world.run(SECOND // 10)
    # Then
    if server.is_running:
        assert world.consume(server, "beside", 1) is not None


@settings(max_examples=40, deadline=None, phases=PHASES)
@given(told=of(BetweenCentres))
def test_nothing_that_a_data_centre_tells_ends_another(told: list[bytes]) -> None:
    """It is not believed, or taken in; what is recorded can be replayed."""
    # Given
    centres = SimulatedCentres(("a", "b"))
    centres.define("a", "c", MAX_AMOUNT, placement="even")
    centres.define("b", "beside", 10, placement="even")
    centres.run(SECOND)
    world, other = centres["a"], centres["b"]
    sender = Sender("b", other.cluster, world.cluster)
    # When
    for number, data in enumerate(told):
        try:
            message = decode_between_centres(data)
        except msgspec.ValidationError:
            continue
        leader = world.leader
        assert leader is not None
        assert leader.core is not None
        leader.core.forwarded(-number - 1, sender, [message], leader.moment)
        leader.flush()
        centres.run(SECOND // 4)
    centres.run(3 * SECOND)
    # Then
    assert world.leader is not None
    assert world.replay().state == world.state
    for each in centres.worlds.values():
        each.consume(each.servers[0], "c", 1)


@settings(max_examples=150, deadline=None, phases=PHASES)
@given(value=built(inspect.type_info(Fact)))
def test_every_fact_that_is_understood_is_written_and_read_again(value: object) -> None:
    """What a fact may hold its schema can hold: nothing in between ends the writer of a log."""
    try:
        fact = msgpack.decode(msgpack.encode(value), type=Fact)
    except msgspec.ValidationError:
        return
    assert decode(encode(fact)) == fact
