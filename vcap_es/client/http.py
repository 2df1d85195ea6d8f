"""Clients of volumecap servers over HTTP: one for plain code, one for asyncio."""

import asyncio
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar
from uuid import uuid4

import httpx2

from vcap_es.client import calls
from vcap_es.client.attempts import Attempt, Failure, HttpAnswer, ServerPool
from vcap_es.client.calls import Call
from vcap_es.components.messages.outcomes import (
    Consumed,
    ConsumedAll,
    ConsumedEach,
    Held,
    Level,
    Refunded,
    Refused,
    Settled,
)
from vcap_es.errors import InvalidInput
from vcap_es.shown import shown

T = TypeVar("T")

TIMEOUT_MS = 2000
RETRIES = 2
_KEY = re.compile(r"[!#-\[\]-~]{1,255}")
NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


class VolumecapClient:
    """Consumes at the volumecap servers with these base URLs, over kept connections.

    Every call gets an idempotency key, its own or the one that is given, and is repeated with it up
    to `retries` times when no answer comes; with `retries=0` no key is sent, which is fastest. A
    server knows the answer to a key for ten minutes, or as long as it is set to.
    The first server that can be reached is kept to. Every method raises Unreachable where none
    answers, RequestRefused where the request itself is at fault (its key, its form), and
    InvalidAmount for what is no amount. Use it as a context, from one thread or several.
    """

    def __init__(
        self,
        base_urls: Sequence[str],
        *,
        api_key: str,
        timeout_ms: int = TIMEOUT_MS,
        retries: int = RETRIES,
    ) -> None:
        """Raises InvalidInput where a URL cannot be used; connects on the first call."""
        self._pool = ServerPool(base_urls, retries)
        self._http = httpx2.Client(headers=_headers(api_key), timeout=timeout_ms / 1000)

    def __enter__(self) -> "VolumecapClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def consume(
        self, cap: str, amount: int = 1, *, minimum: int | None = None, key: str | None = None
    ) -> Consumed | Refused:
        """Take and spend `amount` units; with `minimum`, as many as there are but at least that."""
        return self._do(calls.consume(cap, amount, minimum), key)

    def consume_all(
        self, items: Mapping[str, int], *, key: str | None = None
    ) -> ConsumedAll | Refused:
        """Take and spend an amount of every cap, or nothing at all."""
        return self._do(calls.consume_all(items), key)

    def consume_each(
        self, items: Iterable[tuple[str, int]], *, key: str | None = None
    ) -> ConsumedEach | Refused:
        """Take each amount of its cap by itself; each has its own answer, in the same order."""
        return self._do(calls.consume_each(items), key)

    def hold(
        self, cap: str, amount: int, *, lifetime_ms: int, key: str | None = None
    ) -> Held | Refused:
        """Take units that come back by themselves unless they are committed in time."""
        return self._do(calls.hold(cap, amount, lifetime_ms), key)

    def commit(
        self,
        hold_id: str,
        amount: int | None = None,
        *,
        key: str | None = None,
    ) -> Settled | Refused:
        """Spend `amount` units of the hold `hold_id`, or all of it; the rest comes back."""
        return self._do(calls.commit(hold_id, amount), key)

    def cancel(self, hold_id: str, *, key: str | None = None) -> Settled | Refused:
        """Give the whole hold `hold_id` back."""
        return self._do(calls.cancel(hold_id), key)

    def refund(
        self,
        consume_id: str,
        amount: int | None = None,
        *,
        key: str | None = None,
    ) -> Refunded | Refused:
        """Give `amount` units of the consume `consume_id` back, or all that is left of it."""
        return self._do(calls.refund(consume_id, amount), key)

    def lookup(self, cap: str) -> Level | Refused:
        """What is left of `cap`, at the server and in the data centre."""
        return self._do(calls.lookup(cap), None)

    def _do(self, call: Call[T], key: str | None) -> T | Refused:
        attempts = self._pool.attempts(call, _key_of(call, key, self._pool))
        attempt = next(attempts)
        while True:
            try:
                attempt = attempts.send(self._send(call, attempt))
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]  # what the generator returns

    def _send(self, call: Call[T], attempt: Attempt) -> HttpAnswer | Failure:
        if attempt.pause_ms:
            time.sleep(attempt.pause_ms / 1000)
        try:
            response = self._http.request(
                call.method, attempt.url + call.path, content=call.body, headers=attempt.headers
            )
        except httpx2.TransportError as error:
            return _failure(error)
        return HttpAnswer(response.status_code, response.content)


class AsyncVolumecapClient:
    """`VolumecapClient` for asyncio: the same methods and promises, to be awaited."""

    def __init__(
        self,
        base_urls: Sequence[str],
        *,
        api_key: str,
        timeout_ms: int = TIMEOUT_MS,
        retries: int = RETRIES,
    ) -> None:
        """Raises InvalidInput where a URL cannot be used; connects on the first call."""
        self._pool = ServerPool(base_urls, retries)
        self._http = httpx2.AsyncClient(headers=_headers(api_key), timeout=timeout_ms / 1000)

    async def __aenter__(self) -> "AsyncVolumecapClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def consume(
        self, cap: str, amount: int = 1, *, minimum: int | None = None, key: str | None = None
    ) -> Consumed | Refused:
        """Take and spend `amount` units; with `minimum`, as many as there are but at least that."""
        return await self._do(calls.consume(cap, amount, minimum), key)

    async def consume_all(
        self, items: Mapping[str, int], *, key: str | None = None
    ) -> ConsumedAll | Refused:
        """Take and spend an amount of every cap, or nothing at all."""
        return await self._do(calls.consume_all(items), key)

    async def consume_each(
        self, items: Iterable[tuple[str, int]], *, key: str | None = None
    ) -> ConsumedEach | Refused:
        """Take each amount of its cap by itself; each has its own answer, in the same order."""
        return await self._do(calls.consume_each(items), key)

    async def hold(
        self, cap: str, amount: int, *, lifetime_ms: int, key: str | None = None
    ) -> Held | Refused:
        """Take units that come back by themselves unless they are committed in time."""
        return await self._do(calls.hold(cap, amount, lifetime_ms), key)

    async def commit(
        self,
        hold_id: str,
        amount: int | None = None,
        *,
        key: str | None = None,
    ) -> Settled | Refused:
        """Spend `amount` units of the hold `hold_id`, or all of it; the rest comes back."""
        return await self._do(calls.commit(hold_id, amount), key)

    async def cancel(self, hold_id: str, *, key: str | None = None) -> Settled | Refused:
        """Give the whole hold `hold_id` back."""
        return await self._do(calls.cancel(hold_id), key)

    async def refund(
        self,
        consume_id: str,
        amount: int | None = None,
        *,
        key: str | None = None,
    ) -> Refunded | Refused:
        """Give `amount` units of the consume `consume_id` back, or all that is left of it."""
        return await self._do(calls.refund(consume_id, amount), key)

    async def lookup(self, cap: str) -> Level | Refused:
        """What is left of `cap`, at the server and in the data centre."""
        return await self._do(calls.lookup(cap), None)

    async def _do(self, call: Call[T], key: str | None) -> T | Refused:
        attempts = self._pool.attempts(call, _key_of(call, key, self._pool))
        attempt = next(attempts)
        while True:
            try:
                attempt = attempts.send(await self._send(call, attempt))
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]  # what the generator returns

    async def _send(self, call: Call[T], attempt: Attempt) -> HttpAnswer | Failure:
        if attempt.pause_ms:
            await asyncio.sleep(attempt.pause_ms / 1000)
        try:
            response = await self._http.request(
                call.method, attempt.url + call.path, content=call.body, headers=attempt.headers
            )
        except httpx2.TransportError as error:
            return _failure(error)
        return HttpAnswer(response.status_code, response.content)


def _headers(api_key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}


def _key_of(call: Call[T], key: str | None, pool: ServerPool) -> str | None:
    """The idempotency key of a call; a repetition is safe only with one."""
    if key is None:
        return uuid4().hex if call.method == "POST" and pool.retries else None
    if not _KEY.fullmatch(key):
        raise InvalidInput(f'a key is 1 to 255 of ASCII without ", \\ and spaces, not {shown(key)}')
    return key


def _failure(error: httpx2.TransportError) -> Failure:
    arrived = not isinstance(error, NOT_SENT)
    return Failure(f"{type(error).__name__}: {error}", arrived)
