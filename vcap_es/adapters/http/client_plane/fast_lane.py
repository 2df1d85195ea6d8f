"""The fast lane: the simple consume, answered between two reads of the socket.

`POST /v1/caps/{id}/consume` with the body `{"amount": n}` and without an `Idempotency-Key` is
answered at once when the slice suffices. Whatever is not plainly that, or not plainly a yes, is
handed on to the application as if this file did not exist. It never answers out of turn, and never
more than the other side reads.
"""

import re
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from vcap_es.adapters.http.bounded_protocol import FRESH, IDLE, BoundedConfig, BoundedProtocol
from vcap_es.adapters.http.client_plane.plane import TAKERS, ClientPlane, consumed_json
from vcap_es.adapters.http.problems import FIELD_INTEGER_MAX, clamped
from vcap_es.adapters.http.request_bodies import AMOUNT_BODY, CAP_ID
from vcap_es.adapters.http.server import Speaking
from vcap_es.components.messages.outcomes import Consumed

BODY_BYTES_MAX = 128
LENGTH_DIGITS_MAX = 3
TARGETS_KEPT = 65_536
HEADS_KEPT = 4_096
KNOWN_HEAD_BYTES_MAX = 1024
AMOUNTS_KEPT = 4_096
FRAMES_KEPT = 4_096

_TARGET = re.compile(rb"/v1/caps/([A-Za-z0-9._:%-]{1,384})/consume")
_CAP = re.compile(CAP_ID.encode())

_HANDED_ON = frozenset(
    {
        b"idempotency-key",
        b"transfer-encoding",
        b"content-encoding",
        b"expect",
        b"upgrade",
        b"vcap-forwarded",
    }
)
"""With one of these fields a call is not simple."""

_TELLING = _HANDED_ON | {b"authorization", b"content-type", b"content-length", b"connection"}


class KnownHead(NamedTuple):
    """What the head of a simple call says: the cap, the key, and the length of the body.

    `opened_by` is the keyring by which the key opened the cap, where nothing but another keyring
    can change that: the key never expires, and names no groups.
    """

    head: bytes
    cap: str
    authorization: bytes
    length: int
    opened_by: object


class Frame(NamedTuple):
    """The parts of a response that stay the same for a second: all but the numbers between."""

    total: int
    head: str
    reset: str
    id: str
    cap: str
    tail: str


_NO_HEAD = KnownHead(b"\0", "", b"", -1, None)
"""No request begins so."""


class Lane:
    """What all connections of one fast lane share: what they know, and a head to answer with."""

    def __init__(self, plane: ClientPlane) -> None:
        self.plane = plane
        self.heads: dict[bytes, KnownHead] = {}
        """The heads of calls that were answered, byte by byte as they were sent."""
        self._caps: dict[bytes, str] = {}
        self._amounts: dict[bytes, int] = {}
        self._frames: dict[str, Frame] = {}
        self._defaults: list[tuple[bytes, bytes]] | None = None
        self._head = ""

    def cap_of(self, target: bytes) -> str | None:
        """The cap that a request target consumes from, or None where it is another call's."""
        cap = self._caps.get(target)
        if cap is None:
            parsed = _TARGET.fullmatch(target)
            plain = _CAP.fullmatch(unquote_to_bytes(parsed[1])) if parsed else None
            if plain is None:
                return None
            if len(self._caps) >= TARGETS_KEPT:
                self._caps.clear()
            cap = self._caps[target] = plain[0].decode()
        return cap

    def learn(self, known: KnownHead) -> None:
        """Remember what a head says."""
        if len(self.heads) >= HEADS_KEPT:
            self.heads.clear()
        self.heads[known.head] = known

    def amount_of(self, body: bytes) -> int | None:
        """The amount that a simple body asks for, or None where it is not simple."""
        amount = self._amounts.get(body)
        if amount is None:
            asked = AMOUNT_BODY.fullmatch(body)
            if asked is None:
                return None
            if len(self._amounts) >= AMOUNTS_KEPT:
                self._amounts.clear()
            amount = self._amounts[body] = int(asked[1])
        return amount

    def response(self, consumed: Consumed, defaults: list[tuple[bytes, bytes]]) -> bytes:
        """The whole response to a consume; `defaults` are uvicorn's header fields of the second."""
        if defaults is not self._defaults:
            self._begin_heads_with(defaults)
        frame = self._frames.get(consumed.origin)
        if frame is None or frame.total != consumed.total:
            frame = self._frame(consumed)
        last, remaining = consumed.last, consumed.remaining
        body = (
            f"{frame.id}{last - consumed.consumed}-{last}{frame.cap}{consumed.consumed}"
            f',"remaining":{remaining}{frame.tail}'
        )
        shown = remaining if 0 <= remaining <= FIELD_INTEGER_MAX else clamped(remaining)
        return f"{frame.head}{shown}{frame.reset}{len(body)}\r\n\r\n{body}".encode("latin-1")

    def _frame(self, consumed: Consumed) -> Frame:
        """Take a response apart: it is put together here once a second, as anywhere else."""
        if len(self._frames) >= FRAMES_KEPT:
            self._frames.clear()
        policy, limit = self.plane.limit_fields(
            consumed.cap, consumed.remaining, consumed.total, consumed.resets_at
        )
        limit_head, _, limit_tail = limit.rpartition(f"{clamped(consumed.remaining)};t=")
        body = consumed_json(consumed)
        before, _, tail = body.partition(f',"remaining":{consumed.remaining}')
        before = before.removesuffix(str(consumed.consumed))
        span = f"{consumed.last - consumed.consumed}-{consumed.last}"
        id_, _, cap = before.partition(f"{consumed.origin}{span}")
        frame = self._frames[consumed.origin] = Frame(
            total=consumed.total,
            head=f"{self._head}ratelimit-policy: {policy}\r\nratelimit: {limit_head}",
            reset=f";t={limit_tail}\r\ncontent-length: ",
            id=f"{id_}{consumed.origin}",
            cap=cap,
            tail=tail,
        )
        return frame

    def _begin_heads_with(self, defaults: list[tuple[bytes, bytes]]) -> None:
        self._defaults = defaults
        self._frames.clear()
        fields = [
            f"{name.decode('latin-1')}: {value.decode('latin-1')}" for name, value in defaults
        ]
        fields += [
            "content-type: application/json",
            "cache-control: no-store",
            f"vcap-server: {self.plane.node.incarnation}",
        ]
        self._head = "\r\n".join(["HTTP/1.1 200 OK", *fields, ""])


def _is_plain(name: bytes, value: bytes) -> bool:
    """Whether this field says of a call what every simple call says."""
    if name == b"content-length":
        return len(value) <= LENGTH_DIGITS_MAX
    if name == b"content-type":
        return value == b"application/json"
    return name == b"connection" and value.lower() == b"keep-alive"


class FastLaneConfig(BoundedConfig):
    """uvicorn's settings, and what all connections of the fast lane share."""

    lane: Lane


def fast_lane(plane: ClientPlane) -> Speaking:
    """Simple consumes of `plane` are answered before they reach the application."""

    def configured(settings: dict[str, Any]) -> FastLaneConfig:
        config = FastLaneConfig(http=FastLaneProtocol, **settings)
        config.lane = Lane(plane)
        return config

    return configured


class FastLaneProtocol(BoundedProtocol):
    """One connection; a message is `simple` until something about it is not."""

    config: FastLaneConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lane = self.config.lane
        self._plane = self._lane.plane
        self._cap: str | None = None
        self._body = b""
        """The cap of a message that is simple so far, and its body so far."""
        self._whole = b""
        """What came in one piece and began between two messages."""
        self._known = _NO_HEAD
        """The head of the last call that was answered: nearly always that of the next."""

    # ---- a head that is known

    def data_received(self, data: bytes) -> None:
        """Bytes came: answer at once what was asked before, or feed the parser."""
        if self._phase not in (IDLE, FRESH):
            self._whole = b""
            super().data_received(data)
        elif not self._answer_known(data):
            self._whole = data
            super().data_received(data)

    def _answer_known(self, data: bytes) -> bool:
        """Answer one whole simple call whose head the parser has read before.

        Between two messages the parser has no memory, so the same bytes mean the same again. What
        the key opens is asked anew whenever it may have changed.
        """
        known = self._known
        if not data.startswith(known.head):
            found = self._lane.heads.get(data[: data.find(b"\r\n\r\n") + 4])
            if found is None:
                return False
            known = self._known = found
        length = len(known.head)
        if len(data) - length != known.length or self.flow.write_paused:
            return False
        self._now = self.loop.time()
        return self._still_may(known) and self._answer(known.cap, data[length:])

    def _still_may(self, known: KnownHead) -> bool:
        """Whether the key of a known head opens its cap now."""
        node = self._plane.node
        if known.opened_by is node.keys and node.ready_keys:
            return True
        if not self._may(known.authorization, known.cap):
            return False
        opened_by = self._plane.opened_for_good_by(known.authorization)
        if opened_by is not None:
            self._known = known._replace(opened_by=opened_by)
            self._lane.learn(self._known)
        return True

    def _learn_head(self, cap: str) -> None:
        """Remember the head of a call that was answered, if `_whole` is that call and no more."""
        length = len(self._body)
        head = self._whole[: len(self._whole) - length]
        starts_well = head.startswith(b"POST ") and len(head) <= KNOWN_HEAD_BYTES_MAX
        if starts_well and head.find(b"\r\n\r\n") == len(head) - 4:
            authorization = next(value for name, value in self.headers if name == b"authorization")
            opened_by = self._plane.opened_for_good_by(authorization)
            self._lane.learn(KnownHead(head, cap, authorization, length, opened_by))

    # ---- what the parser tells

    def on_message_begin(self) -> None:
        """The first byte of a head. The scope of an application is made when it is needed."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._begin_head()

    def on_headers_complete(self) -> None:
        """The head is here."""
        self._cap = self._simple_cap()
        if self._cap is None:
            self._hand_on_head()
        else:
            self._body = b""
            self._begin_body()

    def on_body(self, body: bytes) -> None:
        """A part of the body is here."""
        if self._cap is None:
            super().on_body(body)
            return
        self._body += body
        if len(self._body) > BODY_BYTES_MAX:
            self._hand_on()

    def on_message_complete(self) -> None:
        """The message is here: answer it, or hand it on."""
        if self._cap is not None:
            if self._answer(self._cap, self._body):
                self._learn_head(self._cap)
                self._cap = None
                return
            self._hand_on()
        super().on_message_complete()

    # ---- is it simple?

    def _simple_cap(self) -> str | None:
        """The cap of a simple consume by somebody who may; else None."""
        if self._is_answering() or self.flow.write_paused or self._fault_of_head() is not None:
            return None
        cap = self._lane.cap_of(self.url)
        if cap is None or self.parser.get_method() != b"POST":
            return None
        authorization = None
        for name, value in self.headers:
            if name not in _TELLING:
                continue
            if name == b"authorization" and authorization is None:
                authorization = value
            elif not _is_plain(name, value):
                return None
        # An HTTP/1.0 client that keeps alive is not worth a thought here.
        if not self.parser.should_keep_alive() or self.parser.get_http_version() != "1.1":
            return None
        return cap if authorization is not None and self._may(authorization, cap) else None

    def _may(self, authorization: bytes, cap: str) -> bool:
        plane = self._plane
        client = plane.callers.find(authorization)
        return (
            client is not None
            and client.role in TAKERS
            and plane.node.ready_keys
            and plane.allows(client, cap)
        )

    # ---- answer

    def _answer(self, cap: str, body: bytes) -> bool:
        """Consume and answer; False where it takes more than that."""
        amount = self._lane.amount_of(body)
        if amount is None or self.transport.is_closing():
            return False
        consumed = self._plane.node.consume_now(cap, amount)
        if consumed is None:
            return False
        self.transport.write(self._lane.response(consumed, self.server_state.default_headers))
        self.server_state.total_requests += 1
        counts = self._plane.counts
        counts.fast += 1
        counts.units += consumed.consumed
        self._phase, self._since = IDLE, self._now
        return True

    # ---- hand on

    def _hand_on_head(self) -> None:
        """Begin the message again, for the application, with the head that was read."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        HttpToolsProtocol.on_message_begin(self)
        self.url, self.expect_100_continue = url, expects
        self.headers += headers
        super().on_headers_complete()

    def _hand_on(self) -> None:
        """Hand on what was read of a message that turned out not to be simple."""
        self._cap = None
        self._hand_on_head()
        if self._body:
            super().on_body(self._body)
