"""The attempts of one call: to which server, when again, and when no more. Pure.

A key makes an answer the same however often it is asked for, at the server that gave it. So once a
request may have arrived, it is repeated there, and goes elsewhere only when that server cannot be
reached. Then units may have been spent twice for one call; the cap is never exceeded by that.
"""

from collections.abc import Generator, Sequence
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec

from vcap_es.client.calls import Call, Problem, refused
from vcap_es.components.messages.outcomes import Refused
from vcap_es.errors import InvalidInput, Unreachable

T = TypeVar("T")

PAUSE_MS = (50, 1000)
"""Before the first repetition, doubled for each further one, up to the second."""

RETRIED = frozenset({"busy", "too_many_connections", "timeout"})
"""Problems after which nothing was done, and the same request may be carried out soon."""

_problem = msgspec.json.Decoder(Problem).decode


class Attempt(NamedTuple):
    """Send `call` to the server at `url`, after a pause."""

    url: str
    headers: dict[str, str]
    pause_ms: int


class HttpAnswer(NamedTuple):
    """A response has come."""

    status: int
    body: bytes


class Failure(NamedTuple):
    """None has come. Where `arrived` is false, the server surely has not seen the request."""

    reason: str
    arrived: bool


class ServerPool:
    """The servers that may be asked, in turn; the one that answered last is asked next."""

    def __init__(self, base_urls: Sequence[str], retries: int) -> None:
        """Raises InvalidInput where there is no URL, or one that is not of HTTP."""
        if isinstance(base_urls, str) or not base_urls:
            raise InvalidInput("base_urls is a list of one URL or more")
        for url in base_urls:
            if urlsplit(url).scheme not in ("http", "https"):
                raise InvalidInput(f"{url!r} is no URL of a server: http://host:port")
        if retries < 0:
            raise InvalidInput(f"retries is 0 or more, not {retries}")
        self.urls = [url.rstrip("/") for url in base_urls]
        self.retries = retries
        self._first = 0

    def attempts(
        self, call: Call[T], key: str | None
    ) -> Generator[Attempt, HttpAnswer | Failure, T | Refused]:
        """What to send; told each time what came of it. Returns what the call gives.

        A request is repeated up to `retries` times; one that may have arrived only where a
        repetition gives the same, for its key or because it only reads. Going to the next server
        because one cannot be reached does not count, until all were tried.
        """
        is_same = key is not None or call.method == "GET"
        headers = {} if key is None else {"Idempotency-Key": f'"{key}"'}
        at, tried, repeated, pause_ms = self._first, 1, 0, 0
        while True:
            told = yield Attempt(self.urls[at], headers, pause_ms)
            outcome = read(call, told)
            if isinstance(outcome, Retry) and repeated < self.retries:
                pause_ms, repeated = outcome.pause_ms, repeated + 1
            elif isinstance(outcome, Retry):
                return refused(outcome.problem)
            elif not isinstance(outcome, Failure):
                self._first = at
                return outcome
            elif not outcome.arrived and tried < len(self.urls):
                at, tried, pause_ms = (at + 1) % len(self.urls), tried + 1, 0
            elif repeated < self.retries and (is_same or not outcome.arrived):
                at = at if outcome.arrived else (at + 1) % len(self.urls)
                tried, pause_ms = 1, min(PAUSE_MS[0] << repeated, PAUSE_MS[1])
                repeated += 1
            else:
                raise Unreachable(f"{self.urls[at]} does not answer ({outcome.reason})")


class Retry(NamedTuple):
    """A problem after which the same request may be carried out soon."""

    problem: Problem
    pause_ms: int


def read(call: Call[T], answer: HttpAnswer | Failure) -> T | Refused | Retry | Failure:
    """What a response says; a failure where no volumecap server can have sent it."""
    if isinstance(answer, Failure):
        return answer
    try:
        if 200 <= answer.status < 300:
            return call.decode(answer.body)
        problem = _problem(answer.body)
    except msgspec.DecodeError as error:
        why = f"HTTP {answer.status} is not the answer of a volumecap server: {error}"
        return Failure(why, arrived=True)
    if problem.code in RETRIED:
        pause_ms = PAUSE_MS[0] if problem.retry_after_ms is None else problem.retry_after_ms
        return Retry(problem, min(pause_ms, PAUSE_MS[1]))
    return refused(problem)
