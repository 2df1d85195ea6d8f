"""What a node and the process that reads its log for it say to each other."""

from collections.abc import Iterator
from typing import Literal

from msgspec import Struct, msgpack

FRAME_BYTES_MAX = 256 * 2**20
"""A longer message is no message: something else speaks. The books of one cap are far shorter."""

_LENGTH_BYTES = 4


class Question(Struct, frozen=True, tag=True):
    """Something that can be asked of the past."""


class BalancesThen(Question, frozen=True):
    """The balances of a cap after the event at `position`, or at the instant `at`."""

    cap: str
    position: int | None = None
    at: int | None = None


class IntervalsOf(Question, frozen=True):
    """Up to `limit` intervals that a cap ever had, with numbers above `behind`."""

    cap: str
    behind: int
    limit: int


class StatementOf(Question, frozen=True):
    """The lines of a cap, or of one of its intervals."""

    cap: str
    interval: int | None = None


class ReasonsOf(Question, frozen=True):
    """Where every unit was at the instant `at`, of the interval whose period contains that."""

    cap: str
    at: int


class ConsumeOf(Question, frozen=True):
    """What became of one consume, by its id."""

    cap: str
    consume: str


class EventsOf(Question, frozen=True):
    """Every event of a cap."""

    cap: str


class LogPage(Question, frozen=True):
    """Up to `limit` events after `after`; of a cap, of a kind.

    `scopes` are those of the key that asks, None for one to which everything is open.
    """

    after: int
    limit: int
    cap: str | None = None
    kind: str | None = None
    scopes: list[str] | None = None


class OneEvent(Question, frozen=True):
    """The event at `position`, as far as the `scopes` open it."""

    position: int
    scopes: list[str] | None = None


class StreamPage(Question, frozen=True):
    """Some of the next events after `after`, as a stream shows them."""

    after: int
    cap: str | None = None
    kind: str | None = None
    noun: str | None = None
    scopes: list[str] | None = None


class Verify(Question, frozen=True):
    """Whether the whole log is sound."""


AnyQuestion = (
    BalancesThen
    | IntervalsOf
    | StatementOf
    | ReasonsOf
    | ConsumeOf
    | EventsOf
    | LogPage
    | OneEvent
    | StreamPage
    | Verify
)


class ReadingRequest(Struct, frozen=True, tag=True):
    """Answer this, of what is on the log up to `until`; one part of the answer is wanted."""

    number: int
    question: AnyQuestion
    until: int


class More(Struct, frozen=True, tag=True):
    """One more part of the answer is wanted."""

    number: int


class Leave(Struct, frozen=True, tag=True):
    """Nothing more is wanted of the answer."""

    number: int


class NamesTold(Struct, frozen=True, tag=True):
    """The names, or groups, that were wanted, as far as there are any."""

    number: int
    values: dict[str, str]


class ReadingPart(Struct, frozen=True, tag=True):
    """A part of an answer. `next` is where to go on with another question, if there is more."""

    number: int
    body: bytes
    is_last: bool
    next: int | None
    cost_us: int


class ReadingRefused(Struct, frozen=True, tag=True):
    """There is no (more of the) answer; `code` is that of a problem, or `left`."""

    number: int
    code: str
    detail: str
    cap: str | None
    cost_us: int


class Wanted(Struct, frozen=True, tag=True):
    """What servers are called, or the groups of caps, as it is now, is to be told."""

    number: int
    what: Literal["names", "groups"]
    of: list[str]


class Alive(Struct, frozen=True, tag=True):
    """Nothing hangs; the index has come to `indexed`, of a log of `until` events."""

    indexed: int
    until: int


ToReader = ReadingRequest | More | Leave | NamesTold
FromReader = ReadingPart | ReadingRefused | Wanted | Alive

_encoder = msgpack.Encoder()
_to_reader = msgpack.Decoder(ToReader)
_from_reader = msgpack.Decoder(FromReader)


def framed(message: ToReader | FromReader) -> bytes:
    """A message with its length before it."""
    content = _encoder.encode(message)
    return len(content).to_bytes(_LENGTH_BYTES, "big") + content


def decode_at_node(content: bytes) -> FromReader:
    """What the reading process says. Raises msgspec's DecodeError for anything else."""
    message: FromReader = _from_reader.decode(content)
    return message


class Frames:
    """Cuts what arrives at the reading process into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[ToReader]:
        """The messages that are whole by now."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH_BYTES:
            end = _LENGTH_BYTES + int.from_bytes(self._buffer[:_LENGTH_BYTES], "big")
            if len(self._buffer) < end:
                return
            content = bytes(self._buffer[_LENGTH_BYTES:end])
            del self._buffer[:end]
            yield _to_reader.decode(content)
