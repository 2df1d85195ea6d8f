"""Settings of a node: a TOML file, then the environment, then the command line.

An environment variable `VCAP__MASTER__PORT=7100` sets `port` in the table `[master]`; a list is
written as JSON there. A key that is unknown or of the wrong type is an error that names it, not a
surprise later.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct, field

from vcap_es.components.consensus.timings import Timings
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.errors import SettingsError
from vcap_es.events.placements import CENTRE

PREFIX = "VCAP__"
SECRET_LENGTH_MIN = 32
Level = Literal["debug", "info", "warning", "error", "critical"]
Port = Annotated[int, Meta(ge=0, le=65_535)]
_HOST = r"(\[[0-9A-Fa-f:.]+\]|[\w.~-]+)"
_PORT = r"(:(6553[0-5]|655[0-2]\d|65[0-4]\d\d|6[0-4]\d{3}|[1-5]?\d{1,4}))?"
HttpUrl = Annotated[str, Meta(pattern=f"^https?://{_HOST}{_PORT}$")]
AmqpUrl = Annotated[str, Meta(pattern=f"^amqps?://([^@:/]+@)?{_HOST}{_PORT}(/[^/]*)?$")]
"""The URL of a broker. A password in it is refused: it belongs in a file."""

CentreName = Annotated[str, Meta(pattern=f"^{CENTRE}$")]
Slot = Literal[0, 1]
"""A data centre has room for two masters. Which of them is the primary changes; slots do not."""


CLOCK_BEHIND_S_MAX = 10**11
"""Three thousand years: whoever gives this starts with any clock."""


class ReadingSettings(Struct, forbid_unknown_fields=True, kw_only=True):
    """How much of the past may be read at a master, which has a process of its own for that.

    So many readings may be under way, of all keys and of each. A key may be ahead of its share
    of a CPU by so many seconds of it.
    """

    readings_max: Annotated[int, Meta(ge=1, le=1_000)] = 16
    readings_per_key_max: Annotated[int, Meta(ge=1, le=1_000)] = 4
    cpu_seconds_per_key: Annotated[int, Meta(ge=1, le=86_400)] = 120
    cpu_share_per_key: Annotated[float, Meta(ge=0.01, le=1)] = 0.5


class MasterSettings(Struct, forbid_unknown_fields=True, kw_only=True):
    """A master, in whichever role: its slot, its data directory, and where it listens.

    By default it is called m and its slot, and keeps its log in `vcap-data/master` and its slot.
    `address` is how others reach it, by default its own host and port; `peers` are addresses of
    nodes that it asks who leads. By `secondary_command`, as primary, it starts a master in the
    other slot while none runs there; where that is empty, somebody else must. It does not start
    where the machine's clock is more than `clock_behind_max_s` seconds behind its log. `reading`
    bounds what auditors may take.
    """

    slot: Slot = 0
    name: str = ""
    directory: str = ""
    host: str = "127.0.0.1"
    port: Port = 7100
    address: HttpUrl | Literal[""] = ""
    peers: list[HttpUrl] = []
    secondary_command: list[str] = []
    synchronous: Literal["FULL", "OFF"] = "FULL"
    clock_behind_max_s: Annotated[int, Meta(ge=0, le=CLOCK_BEHIND_S_MAX)] = 259_200
    timings: Timings = field(default_factory=Timings)
    reading: ReadingSettings = field(default_factory=ReadingSettings)

    def __post_init__(self) -> None:
        self.name = self.name or f"m{self.slot}"
        self.directory = self.directory or f"vcap-data/master{self.slot}"


class ServerSettings(Struct, forbid_unknown_fields=True, kw_only=True):
    """A volumecap server: its journal, where it listens, and the masters of its data centre.

    Where the `masters` are it may also learn from any node, at one of the addresses `join`.
    `address` is how other servers reach it; by default its own host and port. A `witness` votes
    when a master is gone; one or three of the servers should be one.
    """

    name: str = "s1"
    directory: str = "vcap-data/server"
    host: str = "127.0.0.1"
    port: Port = 7101
    masters: list[HttpUrl] = []
    join: list[HttpUrl] = []
    address: HttpUrl | Literal[""] = ""
    witness: bool = False
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not self.masters and not self.join:
            self.masters = ["http://127.0.0.1:7100"]


class CentreSettings(Struct, forbid_unknown_fields=True, kw_only=True):
    """Another data centre, as this one reaches it.

    `secret_file` holds a secret that only the two of them have; a second line in it is one that is
    good as well, while they change it. `broker` is the broker that it reads from, by default ours,
    and `password_file` holds the password of the user in that URL.
    """

    secret_file: str
    broker: AmqpUrl | Literal[""] = ""
    password_file: str = ""


class RemoteSettings(Struct, forbid_unknown_fields=True, kw_only=True):
    """The RabbitMQ `broker` that this data centre reads from, and the others by their names.

    `password_file` holds the password of the user in the broker's URL. Without `centres`, this
    data centre is alone, and needs no broker.
    """

    broker: AmqpUrl = "amqp://guest@127.0.0.1:5672/%2F"
    password_file: str = ""
    centres: dict[CentreName, CentreSettings] = {}


class FeedSettings(Struct, forbid_unknown_fields=True, kw_only=True):
    """Where every fact is told as it is committed; nowhere while no `broker` is named.

    `exchange` is a topic exchange, which is made where it is not there; `amq.topic` is that which
    MQTT clients of RabbitMQ hear.
    """

    broker: AmqpUrl | Literal[""] = ""
    password_file: str = ""
    exchange: Annotated[str, Meta(min_length=1, max_length=255)] = "amq.topic"


class Settings(Struct, forbid_unknown_fields=True, kw_only=True):
    """Everything that a node can be told."""

    data_centre: CentreName = "dc1"
    node_secret_file: str = "vcap-data/node.secret"  # noqa: S105  # a path, not a secret
    log_level: Level = "info"
    master: MasterSettings = field(default_factory=MasterSettings)
    server: ServerSettings = field(default_factory=ServerSettings)
    remote: RemoteSettings = field(default_factory=RemoteSettings)
    feed: FeedSettings = field(default_factory=FeedSettings)


def load(
    file: Path | None,
    environment: Mapping[str, str],
    given: Mapping[str, object] | None = None,
    *,
    slot: int = 0,
) -> Settings:
    """The settings by `file`, overridden by `environment`, overridden by what was `given`.

    `given` maps dotted names ("server.port") to values; None means not given. `slot` is that of a
    master where none of them says it. Raises `SettingsError` naming the setting.
    """
    values = _read(file) if file else {}
    if isinstance(master := values.setdefault("master", {}), dict):
        master.setdefault("slot", slot)
    for name, text in environment.items():
        if name.startswith(PREFIX):
            _put(values, name.removeprefix(PREFIX).lower().split("__"), _listed(name, text))
    for name, value in (given or {}).items():
        if value is not None:
            _put(values, name.split("."), value)
    try:
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        where = f" (in {file} or the environment)" if file else ""
        raise SettingsError(f"settings{where}: {error}") from error


def read_secret(path: Path) -> str:
    """The secret that a file holds; refuses one that others may read."""
    secret = read_private(path)
    if len(secret) < SECRET_LENGTH_MIN:
        raise SettingsError(f"{path}: a secret has at least {SECRET_LENGTH_MIN} characters")
    return secret


def read_secrets(path: Path) -> tuple[str, ...]:
    """The secrets that a file holds, one a line: the one in use, and another that is good too."""
    secrets = tuple(filter(None, map(str.strip, read_private(path).splitlines())))
    if not 1 <= len(secrets) <= 2 or min(map(len, secrets)) < SECRET_LENGTH_MIN:
        raise SettingsError(
            f"{path}: write one secret or two, a line each, of at least "
            f"{SECRET_LENGTH_MIN} characters"
        )
    return secrets


def read_private(path: Path) -> str:
    """What a file holds that only its owner may read."""
    try:
        mode = path.stat().st_mode
        secret = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}: this secret must be there") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: a secret is text, such as 64 hexadecimal digits") from error
    if mode & 0o077:
        raise SettingsError(f"{path}: others may read this secret: chmod 600 {path}")
    return secret


def _read(file: Path) -> dict[str, object]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: {error}") from error


def _listed(name: str, text: str) -> object:
    """What a variable holds: a list where it looks like one."""
    if not text.startswith("["):
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise SettingsError(f'{name}: write a list as JSON, such as ["a", "b"]: {error}') from error


def _put(values: dict[str, object], path: list[str], value: object) -> None:
    *tables, last = path
    for table in tables:
        inner = values.setdefault(table, {})
        if not isinstance(inner, dict):
            raise SettingsError(f"settings: {table} is a value, not a table")
        values = inner
    values[last] = value
