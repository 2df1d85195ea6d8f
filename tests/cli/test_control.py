"""The command line finds the master that can do what it is asked."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any, ClassVar

import pytest

from tests.support.deployment import free_ports
from vcap_es.cli.control import Control, Where
from vcap_es.cli.refusal import Refusal
from vcap_es.errors import InvalidInput, Unreachable

YES: tuple[int, Any, dict[str, str]] = (200, {"yes": True}, {})


@contextmanager
def node(status: int, body: Any, headers: dict[str, str]) -> Iterator[tuple[str, list[str]]]:
    """A node that answers whatever it is asked so: its address, and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        told: ClassVar = asked

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.told.append(f"{self.command} {self.path}")
            content = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = answer  # noqa: N815  # http.server calls them so

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def misdirected(primary: str | None) -> tuple[int, Any, dict[str, str]]:
    """The answer of a master that does not lead."""
    body = {"code": "not_primary", "detail": "elsewhere", "primary": primary}
    return (421 if primary else 503), body, {}


@contextmanager
def control(*urls: str) -> Iterator[Control]:
    """The command line, told these addresses."""
    with Control(Where(url=",".join(urls))) as found:
        yield found


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """An API key."""
    monkeypatch.setenv("VCAP_KEY", "vcap_a_b")


def nobody() -> str:
    """An address where nobody listens."""
    return f"http://127.0.0.1:{free_ports(1)[0]}"


def test_the_hint_of_a_secondary_is_followed_and_remembered() -> None:
    """The second call goes to the primary at once."""
    with (
        node(*YES) as (primary, at_primary),
        node(*misdirected(primary)) as (other, at_other),
        control(other) as asked,
    ):
        assert asked.call("PUT", "/v1/caps/a", {"total": 1}) == {"yes": True}
        assert asked.call("POST", "/v1/x") == {"yes": True}
    assert at_other == ["PUT /v1/caps/a"]
    assert at_primary == ["PUT /v1/caps/a", "POST /v1/x"]


def test_a_hint_is_followed_once() -> None:
    """Two masters that name each other are not asked for ever."""
    body: dict[str, object] = {"code": "not_primary", "detail": "elsewhere"}
    with node(421, body, {}) as (first, at_first), node(421, body, {}) as (second, at_second):
        body["primary"] = second
        with control(first) as asked, pytest.raises(Refusal, match="not_primary"):
            asked.call("GET", "/v1/x")
    assert (len(at_first), len(at_second)) == (1, 1)


def test_where_nobody_leads_it_says_so() -> None:
    """Without a hint there is nobody else to ask."""
    with node(*misdirected(None)) as (url, asked_there), control(url) as asked:
        with pytest.raises(Refusal) as raised:
            asked.call("POST", "/v1/x")
        assert (raised.value.status, len(asked_there)) == (503, 1)


def test_of_several_addresses_one_has_to_answer() -> None:
    """Those where nobody listens are passed over, also by what changes something."""
    with node(*YES) as (url, asked_there), control(nobody(), f" {url}/") as asked:
        assert asked.call("POST", "/v1/x") == {"yes": True}
        assert asked.call("GET", "/v1/y") == {"yes": True}
    assert asked_there == ["POST /v1/x", "GET /v1/y"]


def test_what_may_have_been_done_is_not_done_again() -> None:
    """A node that breaks off may have carried it out; to read is tried elsewhere."""
    with (
        node(*YES) as (url, asked_there),
        broken() as breaks_off,
        control(breaks_off, url) as asked,
    ):
        with pytest.raises(Unreachable, match=breaks_off):
            asked.call("POST", "/v1/x")
        assert asked_there == []
        assert asked.call("GET", "/v1/x") == {"yes": True}


@contextmanager
def broken() -> Iterator[str]:
    """A node that ends every connection when it was asked something."""

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65_536)

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_where_no_address_answers_the_first_is_named() -> None:
    """And no address at all is told as what it is."""
    first = nobody()
    with control(first, nobody()) as asked, pytest.raises(Unreachable, match=first):
        asked.call("GET", "/v1/x")
    with pytest.raises(InvalidInput, match="empty"), control(" , "):
        pass


def test_the_copy_of_a_secondary_is_told_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Once on standard error, so that a program's input stays what it is."""
    stale = {"vcap-stale": "1", "vcap-position": "41", "vcap-epoch": "3"}
    with node(200, {"yes": True}, stale) as (url, _), control(url) as asked:
        for _ in range(2):
            assert asked.call("GET", "/v1/x") == {"yes": True}
    out, told = capsys.readouterr()
    assert (out, told) == ("", f"vcap: {url} does not lead: this is its copy up to position 41\n")


def test_one_node_can_be_asked_alone() -> None:
    """Its hint is an answer like any other."""
    with (
        node(*YES) as (primary, _),
        node(*misdirected(primary)) as (other, _),
        control(primary) as asked,
        pytest.raises(Refusal, match="not_primary"),
    ):
        asked.ask(other, "POST", "/v1/x", {})
