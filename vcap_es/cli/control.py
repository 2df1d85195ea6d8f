"""The control plane, as the command line calls it."""

import os
from collections.abc import Iterator
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
        Parameter(env_var="VCAP_URL", help="The primary master's address."),
    ] = "http://127.0.0.1:7100"
    key_file: KeyFile = None

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


class Control:
    """Calls of the control plane; a refusal is raised as `Refusal`."""

    def __init__(self, where: Where) -> None:
        key = where.key(DATA / "master0" / "admin.key")
        self._url = where.url
        self._http = httpx2.Client(
            base_url=where.url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=TIMEOUT_SECONDS,
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
        try:
            response = self._http.request(
                method,
                path,
                content=content,
                params=params,
                headers={"Content-Type": "application/json", **(headers or {})},
            )
        except httpx2.TransportError as error:
            raise unreachable(self._url, error) from error
        return checked(response)

    def pages(self, path: str, name: str, **query: object) -> Iterator[Any]:
        """All items of a list that comes in pages."""
        cursor: str | None = None
        while True:
            page = self.call("GET", path, cursor=cursor, **query)
            yield from page[name]
            cursor = page.get("next")
            if cursor is None:
                return


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
