"""The control plane, as the command line calls it: whichever master answers, and who leads."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import httpx2
import msgspec
from cyclopts import Parameter

from vcap_es.cli.refusal import Refusal
from vcap_es.errors import InvalidInput, SettingsError, Unreachable, VcapError

DATA = Path("vcap-data")
TIMEOUT_SECONDS = 30.0
MISDIRECTED = 421
NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol)


KeyFile = Annotated[
    Path | None,
    Parameter(
        env_var="VCAP_KEY_FILE",
        help="The file with your API key; VCAP_KEY can hold the key itself.",
    ),
]


@Parameter(name="*")
@dataclass(frozen=True)
class Where:
    """Which control plane to ask, and as whom."""

    url: Annotated[
        str,
        Parameter(
            env_var="VCAP_URL",
            help="A master's address; several with commas between, of which one has to answer.",
        ),
    ] = "http://127.0.0.1:7100"
    key_file: KeyFile = None

    @property
    def urls(self) -> list[str]:
        """The addresses to ask, in order."""
        found = [each.strip().rstrip("/") for each in self.url.split(",")]
        return [each for each in found if each]

    def key(self, fallback: Path) -> str:
        """The API key: from --key-file, from VCAP_KEY, or from the data directory here."""
        if self.key_file is None and "VCAP_KEY" in os.environ:
            return _checked(os.environ["VCAP_KEY"].strip(), "VCAP_KEY")
        path = self.key_file or fallback
        try:
            return _checked(path.read_text(encoding="utf-8", errors="replace").strip(), str(path))
        except OSError as error:
            raise SettingsError(
                f"{path}: {error.strerror}: give an API key by --key-file or VCAP_KEY"
            ) from error


def _checked(key: str, where: str) -> str:
    if key.isascii() and key.isprintable() and key.startswith("vcap_"):
        return key
    raise SettingsError(f"{where}: this is no API key: one begins with vcap_")


DEFAULT = Where()


class _Misdirected(msgspec.Struct):
    """What a problem says of who can do it."""

    primary: str | None = None


class Control:
    """Calls of the control plane; a refusal is raised as `Refusal`.

    A master that does not lead names the one that does, which is then asked instead, once.
    """

    def __init__(self, where: Where) -> None:
        key = where.key(DATA / "master0" / "admin.key")
        self._urls = where.urls
        if not self._urls:
            raise InvalidInput("--url is empty: give a master's address")
        self._is_stale_told = False
        self._http = httpx2.Client(
            headers={"Authorization": f"Bearer {key}"}, timeout=TIMEOUT_SECONDS
        )

    def __enter__(self) -> "Control":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: dict[str, str] | None = None,
        /,
        **query: object,
    ) -> Any:
        """The answer's JSON; None where the answer is empty."""
        return decoded(self.response(method, path, body, headers, **query))

    def response(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: dict[str, str] | None = None,
        /,
        **query: object,
    ) -> httpx2.Response:
        """The whole answer. Raises `Refusal`, or `Unreachable` where nobody answers."""
        params = {name: str(value) for name, value in query.items() if value is not None}
        content = None if body is None else msgspec.json.encode(body)
        fields = {"Content-Type": "application/json", **(headers or {})}

        def at(url: str) -> httpx2.Request:
            return self._http.build_request(
                method, url + path, content=content, params=params, headers=fields
            )

        response = self._answer(at)
        primary = _primary_in(response)
        if primary is not None and primary != self._urls[0]:
            self._put_first(primary)
            response = self._answer(at)
        self._tell_stale(response)
        return checked(response)

    def ask(self, url: str, method: str, path: str, body: object = None) -> Any:
        """The JSON of the answer of the node at `url`, and of no other."""
        content = None if body is None else msgspec.json.encode(body)
        fields = {"Content-Type": "application/json"}
        try:
            response = self._http.request(method, url + path, content=content, headers=fields)
        except httpx2.TransportError as error:
            raise unreachable(url, error) from error
        return decoded(checked(response))

    def _answer(self, at: Callable[[str], httpx2.Request]) -> httpx2.Response:
        """The answer of the first node that gives one; it is asked first from then on."""
        trouble: VcapError | None = None
        for url in list(self._urls):
            request = at(url)
            try:
                response = self._http.send(request)
            except httpx2.TransportError as error:
                trouble = trouble or unreachable(url, error)
                if request.method != "GET" and not isinstance(error, NEVER_SENT):
                    raise trouble from error  # it may have been done: that is to be looked at
                continue
            self._put_first(url)
            return response
        assert trouble is not None, "there is an address"
        raise trouble

    def _put_first(self, url: str) -> None:
        self._urls = [url, *(each for each in self._urls if each != url)]

    def _tell_stale(self, response: httpx2.Response) -> None:
        """Say once that a secondary has answered."""
        if "vcap-stale" in response.headers and not self._is_stale_told:
            self._is_stale_told = True
            position = response.headers.get("vcap-position")
            sys.stderr.write(
                f"vcap: {self._urls[0]} does not lead: this is its copy up to position {position}\n"
            )

    def pages(self, path: str, name: str, **query: object) -> Iterator[Any]:
        """All items of a list that comes in pages."""
        cursor: str | None = None
        while True:
            page = self.call("GET", path, cursor=cursor, **query)
            yield from page[name]
            cursor = page.get("next")
            if cursor is None:
                return


def _primary_in(response: httpx2.Response) -> str | None:
    """The address of the master that can do what this one could not."""
    if response.status_code != MISDIRECTED:
        return None
    with suppress(msgspec.DecodeError):
        return msgspec.json.decode(response.content, type=_Misdirected).primary
    return None


def unreachable(url: str, error: httpx2.TransportError) -> VcapError:
    """What it means that `url` gave no answer."""
    if isinstance(error, httpx2.UnsupportedProtocol):
        return InvalidInput(f"{url!r} is no address: write it like http://127.0.0.1:7100")
    return Unreachable(f"{url} does not answer ({error}): is it running?")


def checked(response: httpx2.Response) -> httpx2.Response:
    """The response, if it is a yes."""
    if response.is_success:
        return response
    try:
        problem = msgspec.json.decode(response.content, type=dict[str, Any])
    except msgspec.DecodeError:
        problem = {"detail": f"HTTP {response.status_code} from {response.url}"}
    raise Refusal(response.status_code, problem)


def decoded(response: httpx2.Response) -> Any:
    """The JSON of a response."""
    return msgspec.json.decode(response.content) if response.content else None


def cap_path(cap: str, *rest: str) -> str:
    """The path of a cap's resource."""
    return "/".join(("/v1/caps", quote(cap, safe=""), *rest))


def read_text(path: Path) -> str:
    """The text of a file that somebody named; "-" is standard input."""
    try:
        return Path("/dev/stdin" if str(path) == "-" else path).read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path}: byte {error.start} is not UTF-8: save it as UTF-8") from error
