"""A connection to a RabbitMQ broker with one channel, on pika's AsyncioConnection.

Whatever goes wrong ends the connection, and is told once as `BrokerLost`: the broker closed it, a
queue is not there, a publish was not confirmed in time. Who wants another one opens it.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import pika
from msgspec import Struct
from pika import exceptions as amqp
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.channel import Channel
from pika.spec import Basic, BasicProperties

from vcap_es.errors import BrokerLost

OPEN_SECONDS = 10.0
NO_ANSWER = f"no answer within {OPEN_SECONDS:.0f} s: is it frozen?"
CONFIRM_SECONDS = 3.0
"""A frozen broker is noticed by its heartbeat after 20 s: this is our own deadline."""

CLOSE_SECONDS = 1.0
HEARTBEAT_SECONDS = 10
PERSISTENT = 2
GUEST = "guest"
"""RabbitMQ's first user and its password, good on the same machine alone."""

Deliver = Callable[[int, bytes, bool], None]
"""Takes (tag, body, whether it was delivered before)."""

Settle = Callable[[bool], None]
"""Takes whether the broker has confirmed."""


class Broker(Struct, frozen=True, gc=False):
    """Where a broker is, as `amqp[s]://user@host:port/vhost`, and that user's password."""

    url: str
    password: str = GUEST

    @property
    def parameters(self) -> pika.ConnectionParameters:
        """How pika is told."""
        parts = urlsplit(self.url)
        host, is_secure = parts.hostname or "", parts.scheme == "amqps"
        secure = pika.SSLOptions(ssl.create_default_context(), host) if is_secure else None
        return pika.ConnectionParameters(
            host=host,
            port=parts.port or (5671 if is_secure else 5672),
            virtual_host=unquote(parts.path[1:]) or "/",
            credentials=pika.PlainCredentials(unquote(parts.username or GUEST), self.password),
            ssl_options=secure,
            heartbeat=HEARTBEAT_SECONDS,
            connection_attempts=1,
            socket_timeout=OPEN_SECONDS,
            stack_timeout=OPEN_SECONDS,
            blocked_connection_timeout=OPEN_SECONDS,
        )

    def __repr__(self) -> str:
        return f"Broker({self.url})"


class BrokerConnection:
    """One open connection. Use it as an asynchronous context."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self._loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._connection: AsyncioConnection | None = None
        self._open: Channel | None = None
        self._published = 0
        self._unconfirmed: dict[int, tuple[float, Settle]] = {}
        self._returned = 0
        self._deadline: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        """Open it; raises BrokerLost."""
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                self._connection = await self._connected()
                self._connection.add_on_close_callback(lambda _, error: self._lose(error))
                self._open = await self._channel_opened()
        except TimeoutError as error:
            await self._close()
            raise BrokerLost(f"{self.broker.url}: {NO_ANSWER}") from error
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    # ---- what is there

    async def declare_queue(self, name: str, arguments: Mapping[str, object]) -> None:
        """Let there be this durable queue; raises BrokerLost where it is one of another kind."""
        await self._rpc(
            self._channel.queue_declare, queue=name, durable=True, arguments=dict(arguments)
        )

    async def declare_topics(self, name: str) -> None:
        """Let there be a durable exchange that sends by topics."""
        await self._rpc(
            self._channel.exchange_declare, exchange=name, exchange_type="topic", durable=True
        )

    # ---- out

    def publish(
        self,
        exchange: str,
        key: str,
        body: bytes,
        settle: Settle,
        *,
        headers: Mapping[str, str] | None = None,
        is_mandatory: bool = True,
    ) -> None:
        """Publish `body`, persistently; `settle` hears whether the broker has it.

        A mandatory one that no queue takes ends the connection: what is missing is declared anew.
        """
        if self._lost.done():
            settle(False)
            return
        self._published += 1
        self._unconfirmed[self._published] = (self._loop.time() + CONFIRM_SECONDS, settle)
        properties = BasicProperties(delivery_mode=PERSISTENT, headers=dict(headers or {}))
        try:
            self._channel.basic_publish(exchange, key, body, properties, mandatory=is_mandatory)
        except amqp.AMQPError as error:
            self._lose(error)
            return
        if self._deadline is None:
            self._deadline = self._loop.call_later(CONFIRM_SECONDS, self._look_at_the_clock)

    @property
    def is_lost(self) -> bool:
        """Whether nothing can be published any more."""
        return self._lost.done()

    @property
    def unconfirmed(self) -> int:
        """How much of what was published is not settled."""
        return len(self._unconfirmed)

    # ---- in

    async def consume(self, queue: str, deliver: Deliver, *, unacknowledged_max: int) -> None:
        """Take what comes to `queue`, at most so much that is not acknowledged."""
        await self._rpc(self._channel.basic_qos, prefetch_count=unacknowledged_max)

        def delivered(_: Channel, method: Basic.Deliver, __: BasicProperties, body: bytes) -> None:
            deliver(method.delivery_tag, body, method.redelivered)

        await self._rpc(
            self._channel.basic_consume, queue=queue, on_message_callback=delivered, auto_ack=False
        )

    def acknowledge(self, tag: int) -> None:
        """The broker may forget what it delivered as `tag`."""
        if not self._lost.done():
            self._channel.basic_ack(tag)

    def give_back(self, tag: int) -> None:
        """The broker shall deliver it again, to whoever can take it."""
        if not self._lost.done():
            self._channel.basic_nack(tag, requeue=True)

    async def lost(self) -> None:
        """Wait until the connection is lost; raises BrokerLost."""
        await asyncio.shield(self._lost)

    # ---- inside

    @property
    def _channel(self) -> Channel:
        if self._open is None or self._lost.done():
            raise BrokerLost(f"{self.broker.url}: the connection is gone")
        return self._open

    async def _connected(self) -> AsyncioConnection:
        opened: asyncio.Future[AsyncioConnection] = self._loop.create_future()

        def succeed(connection: AsyncioConnection) -> None:
            if opened.cancelled():
                connection.close()
            else:
                opened.set_result(connection)

        def fail(_: AsyncioConnection, error: BaseException) -> None:
            if not opened.done():
                opened.set_exception(self._told(error))

        AsyncioConnection(
            self.broker.parameters,
            on_open_callback=succeed,
            on_open_error_callback=fail,
            custom_ioloop=self._loop,
        )
        return await opened

    async def _channel_opened(self) -> Channel:
        assert self._connection is not None
        opened: asyncio.Future[Channel] = self._loop.create_future()
        channel = self._connection.channel(on_open_callback=_give_to(opened))
        channel.add_on_close_callback(lambda _, error: self._lose(error))
        channel.add_on_cancel_callback(lambda _: self._lose_for("its queue was deleted"))
        channel.add_on_return_callback(self._return)
        await self._or_lost(opened)
        confirmed: asyncio.Future[object] = self._loop.create_future()
        channel.confirm_delivery(self._confirm, _give_to(confirmed))
        await self._or_lost(confirmed)
        return channel

    async def _rpc(self, call: Callable[..., object], **arguments: object) -> None:
        done: asyncio.Future[object] = self._loop.create_future()
        try:
            call(**arguments, callback=_give_to(done))
            async with asyncio.timeout(OPEN_SECONDS):
                await self._or_lost(done)
        except amqp.AMQPError as error:
            raise self._told(error) from error
        except TimeoutError as error:
            raise BrokerLost(f"{self.broker.url}: {NO_ANSWER}") from error

    async def _or_lost(self, wanted: "asyncio.Future[Any]") -> None:
        """Wait for `wanted`, or raise why it never comes."""
        await asyncio.wait({wanted, self._lost}, return_when=asyncio.FIRST_COMPLETED)
        if self._lost.done():
            wanted.cancel()
            self._lost.result()

    def _confirm(self, frame: Any) -> None:
        method = frame.method
        is_there = isinstance(method, Basic.Ack)
        is_one, tag = not method.multiple, method.delivery_tag
        for each in [tag] if is_one else [each for each in self._unconfirmed if each <= tag]:
            found = self._unconfirmed.pop(each, None)
            if found is not None:
                found[1](is_there)

    def _return(self, *returned: Any) -> None:
        """No queue takes what was published: a positive confirmation comes all the same."""
        method = returned[1]
        self._lose_for(f"no queue takes what is sent to {method.routing_key!r}: it was deleted")

    def _look_at_the_clock(self) -> None:
        self._deadline = None
        if self._lost.done() or not self._unconfirmed:
            return
        left_s = next(iter(self._unconfirmed.values()))[0] - self._loop.time()
        if left_s <= 0:
            self._lose_for(f"nothing was confirmed for {CONFIRM_SECONDS:.0f} s: is it frozen?")
        else:
            self._deadline = self._loop.call_later(left_s, self._look_at_the_clock)

    def _lose(self, error: BaseException) -> None:
        if not self._lost.done():
            self._fail(self._told(error))

    def _lose_for(self, reason: str) -> None:
        if not self._lost.done():
            self._fail(BrokerLost(f"{self.broker.url}: {reason}"))

    def _fail(self, error: BrokerLost) -> None:
        self._lost.set_exception(error)
        self._lost.exception()  # it may be that nobody waits for it any more
        unconfirmed, self._unconfirmed = self._unconfirmed, {}
        for _, settle in unconfirmed.values():
            settle(False)

    def _told(self, error: BaseException) -> BrokerLost:
        """What happened, in words, with what to do."""
        return BrokerLost(f"{self.broker.url}: {_words(error)}")

    async def _close(self) -> None:
        """Close in order, or after a moment without the broker's consent."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._lose_for("closed here")
        connection = self._connection
        if connection is None or connection.is_closed:
            return
        gone: asyncio.Future[object] = self._loop.create_future()
        connection.add_on_close_callback(_give_to(gone))
        with suppress(amqp.AMQPError):
            if not connection.is_closing:
                connection.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await gone
                return
        # pika closes with the broker's consent only, and a frozen one gives none.
        connection._terminate_stream(None)


def _give_to(future: "asyncio.Future[Any]") -> Callable[..., None]:
    """A callback that lets `future` have what it is called with."""

    def give(*given: Any) -> None:
        if not future.done():
            future.set_result(given[0] if given else None)

    return give


def _words(error: BaseException) -> str:
    """An error of pika as people would say it."""
    inner = _innermost(error)
    match inner:
        case amqp.ProbableAuthenticationError():
            return "the login is refused: look at remote.broker and remote.password_file"
        case amqp.ProbableAccessDeniedError():
            return "this user may not use this virtual host: set its permissions"
        case amqp.ConnectionClosedByBroker() | amqp.ChannelClosedByBroker():
            return f"closed by the broker: {inner.reply_text} ({inner.reply_code})"
        case amqp.AMQPHeartbeatTimeout():
            return "no heartbeat: is it frozen, or the network cut?"
        case ConnectionRefusedError():
            return "nobody listens there: is it running?"
        case _:
            return str(inner) or type(inner).__name__


def _innermost(error: BaseException) -> BaseException:
    """The cause that pika has wrapped, several times."""
    for nested in ("exceptions", "exception"):
        found = getattr(error, nested, None)
        if isinstance(found, list | tuple) and found:
            return _innermost(found[-1])
        if isinstance(found, BaseException):
            return _innermost(found)
    if isinstance(error, amqp.AMQPConnectionError) and len(error.args) == 1:
        inner = error.args[0]
        if isinstance(inner, BaseException):
            return _innermost(inner)
    return error
