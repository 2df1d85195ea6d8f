"""One round in which servers are asked to return units that lie idle."""

from msgspec import Struct

from vcap_es.components.messages.server import RecallRoundId


class RecallRound(Struct):
    """A round in which the others are asked to give back, for the need of `head`.

    `head` is "" when the round pays a debt. `targets` are running totals of returns.
    """

    number: RecallRoundId
    head: str
    need: int
    version: int
    since: int
    targets: dict[str, int]
    waiting: set[str]
