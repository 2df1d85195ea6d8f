"""uvicorn's HTTP protocol with bounds on what a stranger can make it do.

uvicorn has a deadline for idle connections alone. Here a head, a body and a reader that is too
slow end a connection as well; heads and paths are bounded, and so is the number of connections,
of one address and of all. A fault is answered with a problem, never between two other answers.
"""

from asyncio import BaseTransport, TimerHandle, Transport
from typing import Any, cast

import httptools
from msgspec import Struct
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from vcap_es.adapters.http.problems import problem, problem_response, raw_problem


class ProtocolBounds(Struct, frozen=True, kw_only=True):
    """What one connection, and all together, may take.

    `head_s` and `body_s` run from the first byte of a head to its end, and from there to the end of
    the body; `idle_s` between requests, and for a reader that takes nothing. Behind a proxy, all
    connections come from one address: raise `connections_per_address_max` there.
    """

    head_s: float = 5.0
    body_s: float = 5.0
    idle_s: float = 15.0
    head_bytes_max: int = 8 * 1024
    path_bytes_max: int = 1024
    connections_max: int = 10_000
    connections_per_address_max: int = 1_000


class ConnectionLimiter:
    """Counts the connections of one server."""

    def __init__(self, bounds: ProtocolBounds) -> None:
        self.bounds = bounds
        self._inside = 0
        self._by_address: dict[str, int] = {}

    def admit(self, address: str) -> bool:
        """Whether one more connection from `address` may come in; it then counts."""
        here = self._by_address.get(address, 0)
        bounds = self.bounds
        if self._inside >= bounds.connections_max or here >= bounds.connections_per_address_max:
            return False
        self._inside += 1
        self._by_address[address] = here + 1
        return True

    def leave(self, address: str) -> None:
        """A connection that was admitted is gone."""
        self._inside -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]


class BoundedConfig(Config):
    """uvicorn's settings, and the doorkeeper that all connections of the server share."""

    doorkeeper: ConnectionLimiter


# Where a connection is with its newest message: nothing ever came; between messages; in a head; in
# a body; the application has it all.
FRESH, IDLE, HEAD, BODY, ANSWER = range(5)

_UPGRADING = (b"upgrade", b"http2-settings")

LINGER_S = 1.0
"""How long a connection that is closed may take to send what is left."""

_TOO_MANY = raw_problem("too_many_connections", "no more connections now", retry_after_s=1)
_TOO_SLOW = raw_problem("timeout", "the request did not arrive in time", retry_after_s=1)
_NO_HTTP = raw_problem("bad_request", "this is not HTTP/1.1")
_LARGE_HEAD = raw_problem("headers_too_large", "the request head is too large")


class _Flow(FlowControl):
    """Reads on only when all that was read is begun.

    uvicorn resumes reading after each answer, so the calls of a pipelining client, of which each
    read brings many and each answer ends one, would pile up without end.
    """

    def __init__(self, protocol: HttpToolsProtocol) -> None:
        super().__init__(protocol.transport)
        self._waiting = protocol.pipeline

    def resume_reading(self) -> None:
        if not self._waiting:
            super().resume_reading()


class BoundedProtocol(HttpToolsProtocol):
    """One connection, kept within `ProtocolBounds`."""

    config: BoundedConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._doorkeeper = self.config.doorkeeper
        self._bounds = self._doorkeeper.bounds
        self._is_admitted = False
        self._is_deaf = False
        self._is_closing = False
        self._is_held_back = False
        self._phase = FRESH
        self._now = self._since = self._paused_at = self.loop.time()
        self._head_may_be_large = False
        self._head_bytes = 0
        self._head_is_new = False
        self._timer: TimerHandle | None = None

    # ---- the connection

    def connection_made(self, transport: BaseTransport) -> None:
        """A stranger is at the door."""
        super().connection_made(cast(Transport, transport))
        self.flow = _Flow(self)
        self._is_admitted = self._doorkeeper.admit(self._address)
        self._wake_in(self._bounds.head_s)
        if not self._is_admitted:
            self._refuse_raw(_TOO_MANY)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._leave()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """The connection becomes another protocol's affair."""
        self._leave()
        super().handle_websocket_upgrade()

    def data_received(self, data: bytes) -> None:
        """Bytes came: feed the parser, which calls the `on_...` methods."""
        if self._is_deaf:
            return
        self._now = self.loop.time()
        self._head_is_new = False
        self._head_may_be_large = self._phase == HEAD or len(data) > self._bounds.head_bytes_max
        unread = data
        while unread:
            unread = self._feed(unread)
        if self._phase in (HEAD, BODY):
            self._bound_what_is_half_here(len(data))

    def pause_writing(self) -> None:
        """The other side does not read as fast as we answer."""
        self._paused_at = self.loop.time()
        super().pause_writing()

    @property
    def _address(self) -> str:
        return self.client[0] if self.client else ""

    def _leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._is_admitted:
            self._is_admitted = False
            self._doorkeeper.leave(self._address)

    def _feed(self, data: bytes) -> bytes:
        """Let the parser read `data`; what it is to read again comes back."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            elif self.parser.get_method() == b"CONNECT":
                self._refuse_raw(_NO_HTTP)
            else:
                return self._head_without_upgrade() + data[upgrade.args[0] :]
        except httptools.HttpParserError:
            self._refuse_raw(_NO_HTTP)
        return b""

    def _head_without_upgrade(self) -> bytes:
        """The head once more, for a new parser, asking for no other protocol.

        RFC 9110 lets a server ignore the wish, and Java's HTTP client utters it (`h2c`) in every
        first request; the parser however would skip the body.
        """
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        for name, value in self.headers:
            if name == b"connection":
                tokens = [each.strip() for each in value.split(b",")]
                value = b", ".join(each for each in tokens if each.lower() not in _UPGRADING)
            if name not in _UPGRADING:
                lines.append(b"%b: %b" % (name, value))
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return b"\r\n".join([*lines, b"", b""])

    # ---- one message

    def on_message_begin(self) -> None:
        """The first byte of a head."""
        super().on_message_begin()
        self._begin_head()

    def _begin_head(self) -> None:
        self._phase, self._since = HEAD, self._now
        self._head_bytes, self._head_is_new = 0, True

    def on_headers_complete(self) -> None:
        """The head is here; what is too large is refused in its turn."""
        self._begin_body()
        self._is_held_back = self.parser.should_upgrade() and not self._should_upgrade()
        if self._is_held_back:
            return
        code = self._fault_of_head()
        if code is None:
            super().on_headers_complete()
            return
        app, self.app = self.app, cast(Any, _refusing(code))
        try:
            super().on_headers_complete()
        finally:
            self.app = app

    def _begin_body(self) -> None:
        self._phase, self._since = BODY, self._now

    def on_message_complete(self) -> None:
        """The body is here; the application may take its time."""
        if self._is_held_back:
            return
        super().on_message_complete()
        self._since = self._now
        self._phase = ANSWER if self._is_answering() else IDLE

    def on_response_complete(self) -> None:
        """The application has answered. The deadline between requests is ours, not uvicorn's."""
        super().on_response_complete()
        self._unset_keepalive_if_required()
        if self._phase == ANSWER and not self._is_answering():
            self._phase, self._since = IDLE, self.loop.time()

    def _is_answering(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete

    def _fault_of_head(self) -> str | None:
        if not self._head_may_be_large:
            return None
        if len(self.url) > self._bounds.path_bytes_max:
            return "path_too_long"
        size = sum(len(name) + len(value) + 4 for name, value in self.headers)
        return "headers_too_large" if size > self._bounds.head_bytes_max else None

    # ---- deadlines

    def _bound_what_is_half_here(self, more_bytes: int) -> None:
        """A head that never ends is cut off, one read late; a deadline that came nearer is kept."""
        if self._phase == HEAD and not self._head_is_new:
            self._head_bytes += more_bytes
            if self._head_bytes > self._bounds.head_bytes_max:
                self._refuse_raw(_LARGE_HEAD)
                return
        left_s = self._deadline() - self._now
        if self._timer is not None and self._timer.when() > self._now + left_s:
            self._timer.cancel()
            self._wake_in(left_s)

    def _deadline(self) -> float:
        bounds, now = self._bounds, self.loop.time()
        if self.flow.write_paused:
            return self._paused_at + bounds.idle_s
        if self._phase == ANSWER or self.flow.read_paused:
            return now + bounds.idle_s
        waits_s = (bounds.head_s, bounds.idle_s, bounds.head_s, bounds.body_s)
        return self._since + waits_s[self._phase]

    def _wake_in(self, seconds: float) -> None:
        self._timer = self.loop.call_later(seconds, self._look_at_the_clock)

    def _look_at_the_clock(self) -> None:
        if self._is_closing:
            self.transport.abort()
            return
        left_s = self._deadline() - self.loop.time()
        if self.transport.is_closing():
            self._close()
        elif left_s > 0:
            self._wake_in(left_s)
        elif self.flow.write_paused:
            self.transport.abort()
        elif self._phase in (FRESH, IDLE):
            self._close()
        else:
            self._refuse_raw(_TOO_SLOW)
            if not self._is_closing:
                self._wake_in(self._bounds.idle_s)

    # ---- ends

    def _refuse_raw(self, response: bytes) -> None:
        """Say why, where that cannot fall into another answer, and close."""
        if self._phase == HEAD and self._is_answering():
            self._end_after_answers()
            return
        if not self.pipeline and not (self._is_answering() and self.cycle.response_started):
            self.transport.write(response)
        self._close()

    def _end_after_answers(self) -> None:
        """Hear no more; what was asked before is answered, and then the connection is closed."""
        self._is_deaf = True
        if self._is_answering():
            self._phase = ANSWER
            self.cycle.keep_alive = False
        else:
            self._close()

    def _close(self) -> None:
        self._is_deaf = self._is_closing = True
        self._phase = IDLE
        if self._timer is not None:
            self._timer.cancel()
        self._wake_in(LINGER_S)
        self.transport.close()


def _refusing(code: str) -> ASGIApp:
    """An application that refuses whatever is asked, and ends the connection."""

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        members = problem(code, "the head of the request is too large for this server")
        await problem_response(members, {"connection": "close"})(scope, receive, send)

    return refuse
