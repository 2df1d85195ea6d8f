"""Letters between data centres: signed, numbered, and opened only by those they are for.

The broker is not trusted. Two data centres share secrets that nobody else has; a letter says who
wrote it for whom, in which epoch and as which number, and an HMAC-SHA256 covers all of it. What
cannot be opened is told by name, so that it can be parked and looked at.
"""

import hmac
from collections.abc import Mapping, Sequence
from itertools import islice

import msgspec
from msgspec import Raw, Struct, msgpack

from vcap_es.components.messages.centre import Sender
from vcap_es.components.messages.encoding import InLetters, decode_between_centres
from vcap_es.errors import LetterRefused

PROTOCOL = 1
BYTES_MAX = 1024 * 1024
CONTENT_BYTES = 128 * 1024
"""A letter is not made larger than this, unless a single message is."""

MESSAGES_MAX = 200
WINDOW = 65_536
"""A letter that comes later than this many others of its epoch is refused as repeated."""

EPOCHS_MAX = 4
SOURCE_LENGTH_MAX = 64


class Sealed(Struct, frozen=True, array_like=True, gc=False):
    """A letter as it travels: what is outside can be read by all, and is not to be believed."""

    protocol: int
    source: str
    seal: bytes
    content: bytes


class Content(Struct, frozen=True, array_like=True, gc=False):
    """What a letter says; `number` counts the letters from `source` to `target` in `epoch`.

    `cluster` names the log of its writer, and `to` the log that it is for, "" where nobody knows.
    """

    source: str
    target: str
    epoch: int
    number: int
    messages: list[Raw]
    cluster: str
    to: str


class Letter(Struct, frozen=True, gc=False):
    """A letter that was opened."""

    sender: Sender
    messages: list[InLetters]


_encode = msgpack.Encoder().encode
_decode_sealed = msgpack.Decoder(Sealed).decode
_decode_content = msgpack.Decoder(Content).decode


class Writer:
    """Writes the letters of one data centre to another, in one epoch."""

    def __init__(
        self, source: str, target: str, secrets: Sequence[str], epoch: int, cluster: str
    ) -> None:
        """Sign with the first of the `secrets` that both have; `cluster` names the own log."""
        self._source, self._target, self._epoch = source, target, epoch
        self._cluster = cluster
        self._secret, self._number = secrets[0].encode(), 0

    def write(self, messages: list[bytes], to: str) -> bytes:
        """A letter with these encoded messages, for the log of the cluster `to`."""
        self._number += 1
        content = _encode(
            Content(
                source=self._source,
                target=self._target,
                epoch=self._epoch,
                number=self._number,
                messages=[*map(Raw, messages)],
                cluster=self._cluster,
                to=to,
            )
        )
        seal = _sealed(self._secret, PROTOCOL, content)
        return _encode(Sealed(PROTOCOL, self._source, seal, content))


class Reader:
    """Opens the letters that one data centre gets, and knows them again."""

    def __init__(self, target: str, secrets: Mapping[str, Sequence[str]]) -> None:
        """Letters to `target`, from those who share one of these `secrets` with it."""
        self._target = target
        self._secrets = {name: [each.encode() for each in own] for name, own in secrets.items()}
        self._seen: dict[str, dict[tuple[str, int], Numbers]] = {name: {} for name in secrets}

    def open(self, data: bytes, *, is_redelivered: bool = False) -> Letter:
        """The letter in `data`; one that is redelivered by the broker may be known already.

        Raises `LetterRefused`, which says why.
        """
        sealed = _unpacked(data)
        secrets = self._secrets.get(sealed.source)
        if secrets is None:
            raise LetterRefused("unknown source", f"{sealed.source[:SOURCE_LENGTH_MAX]!r}")
        if not any(_is_sealed_with(each, sealed) for each in secrets):
            raise LetterRefused("wrong signature", f"it claims to be from {sealed.source}")
        content = _content_of(sealed)
        if (content.source, content.target) != (sealed.source, self._target):
            way = f"it goes from {content.source} to {content.target}"
            raise LetterRefused("wrong way", way)
        messages = _messages_of(content)
        if not self._is_new(content) and not is_redelivered:
            which = f"number {content.number} of epoch {content.epoch} from {content.source}"
            raise LetterRefused("repeated", which)
        return Letter(Sender(content.source, content.cluster, content.to), messages)

    def _is_new(self, content: Content) -> bool:
        """Each log counts its epochs anew; of the most that are kept, the oldest go first."""
        seen, cluster, epoch = self._seen[content.source], content.cluster, content.epoch
        if (cluster, epoch) not in seen:
            if len(seen) == EPOCHS_MAX:
                oldest = min(seen, key=lambda each: (each[0] == cluster, each[1]))
                if oldest[0] == cluster and oldest[1] > epoch:
                    return False
                del seen[oldest]
            seen[cluster, epoch] = Numbers()
        return seen[cluster, epoch].is_new(content.number)


class Numbers:
    """Which numbers were there, of the last `WINDOW` below the largest."""

    def __init__(self) -> None:
        self._largest = 0
        self._seen: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def is_new(self, number: int) -> bool:
        """Whether `number` was not there yet; it is there from now on."""
        if number in self._seen or number <= self._largest - WINDOW:
            return False
        self._seen[number] = None
        self._largest = max(self._largest, number)
        if len(self._seen) > WINDOW:
            for each in list(islice(self._seen, len(self._seen) - WINDOW)):
                del self._seen[each]
        return True


def _unpacked(data: bytes) -> Sealed:
    if len(data) > BYTES_MAX:
        raise LetterRefused("too large", f"{len(data)} bytes, and {BYTES_MAX} are allowed")
    try:
        sealed = _decode_sealed(data)
    except msgspec.DecodeError as error:
        raise LetterRefused("no letter", str(error)) from error
    if sealed.protocol != PROTOCOL:
        spoken = f"protocol {sealed.protocol} is spoken here as {PROTOCOL}: upgrade one of us"
        raise LetterRefused("other version", spoken)
    return sealed


def _is_sealed_with(secret: bytes, sealed: Sealed) -> bool:
    return hmac.compare_digest(_sealed(secret, sealed.protocol, sealed.content), sealed.seal)


def _sealed(secret: bytes, protocol: int, content: bytes) -> bytes:
    return hmac.digest(secret, b"vcap letter %d\0" % protocol + content, "sha256")


def _content_of(sealed: Sealed) -> Content:
    try:
        return _decode_content(sealed.content)
    except msgspec.DecodeError as error:
        raise LetterRefused("not understood", str(error)) from error


def _messages_of(content: Content) -> list[InLetters]:
    if len(content.messages) > MESSAGES_MAX:
        raise LetterRefused("too large", f"{len(content.messages)} messages")
    try:
        return [decode_between_centres(each) for each in content.messages]
    except msgspec.DecodeError as error:
        raise LetterRefused("not understood", str(error)) from error
