"""How one data centre reaches the others over RabbitMQ: brokers, secrets, queues.

There is one durable quorum queue for each direction, at the broker of the one who reads it. Both
sides declare it, alike.
"""

from collections.abc import Mapping

from msgspec import Struct

from vcap_es.adapters.rabbitmq.connection import Broker

LETTERS: Mapping[str, object] = {
    "x-queue-type": "quorum",
    "x-max-length": 20_000,
    "x-overflow": "drop-head",
    "x-delivery-limit": 1_000,
}
"""A queue of letters is bounded: the newest say all that the oldest did."""

PARKED: Mapping[str, object] = {
    "x-queue-type": "quorum",
    "x-max-length": 1_000,
    "x-overflow": "drop-head",
}
"""What could not be opened is kept for people to look at, the newest of it."""


class Peer(Struct, frozen=True, kw_only=True, gc=False):
    """Another data centre: the broker that it reads from, and the secrets that we share with it.

    The first of the `secrets` signs what we write; any of them opens what it writes.
    """

    name: str
    broker: Broker
    secrets: tuple[str, ...]


class Topology(Struct, frozen=True, kw_only=True, gc=False):
    """The broker that this data centre reads from, and the others that it can reach."""

    broker: Broker
    peers: tuple[Peer, ...]


def letters_queue(source: str, target: str) -> str:
    """The queue of the letters from one data centre to another."""
    return f"vcap.letters.{source}.{target}"


def parked_queue(target: str) -> str:
    """The queue of what came to a data centre and could not be opened."""
    return f"vcap.parked.{target}"
