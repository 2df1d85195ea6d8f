"""Settings of a node: a TOML file, then the environment, then the command line.

An environment variable `VCAP__PRIMARY__PORT=7100` sets `port` in the table `[primary]`. A key that
is unknown or of the wrong type is an error that names it, not a surprise later.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct, field

from vcap_es.components.holdings import Limits
from vcap_es.errors import SettingsError

PREFIX = "VCAP__"
Level = Literal["debug", "info", "warning", "error", "critical"]
Port = Annotated[int, Meta(ge=0, le=65_535)]
WebSocketUrl = Annotated[str, Meta(pattern=r"^wss?://[^/]")]


class PrimarySettings(Struct, forbid_unknown_fields=True, kw_only=True):
    """The primary master: its name, its data directory, and where it listens."""

    name: str = "m1"
    directory: str = "vcap-data/primary"
    host: str = "127.0.0.1"
    port: Port = 7100
    synchronous: Literal["FULL", "OFF"] = "FULL"


class ServerSettings(Struct, forbid_unknown_fields=True, kw_only=True):
    """A volumecap server: its journal, where it listens, and its master.

    `address` is how other servers reach it; by default its own host and port.
    """

    name: str = "s1"
    directory: str = "vcap-data/server"
    host: str = "127.0.0.1"
    port: Port = 7101
    master: WebSocketUrl = "ws://127.0.0.1:7100"
    address: str = ""
    limits: Limits = field(default_factory=Limits)


class Settings(Struct, forbid_unknown_fields=True, kw_only=True):
    """Everything that a node can be told."""

    data_centre: str = "dc1"
    node_secret_file: str = "vcap-data/node.secret"  # noqa: S105  # a path, not a secret
    log_level: Level = "info"
    primary: PrimarySettings = field(default_factory=PrimarySettings)
    server: ServerSettings = field(default_factory=ServerSettings)


def load(
    file: Path | None,
    environment: Mapping[str, str],
    given: Mapping[str, object] | None = None,
) -> Settings:
    """The settings by `file`, overridden by `environment`, overridden by what was `given`.

    `given` maps dotted names ("server.port") to values; None means not given. Raises
    `SettingsError` naming the setting.
    """
    values = _read(file) if file else {}
    for name, text in environment.items():
        if name.startswith(PREFIX):
            _put(values, name.removeprefix(PREFIX).lower().split("__"), text)
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
    try:
        mode = path.stat().st_mode
        secret = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}: the node secret must be there") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: a secret is text, such as 64 hexadecimal digits") from error
    if mode & 0o077:
        raise SettingsError(f"{path}: others may read this secret: chmod 600 {path}")
    if len(secret) < 32:
        raise SettingsError(f"{path}: a secret has at least 32 characters")
    return secret


def _read(file: Path) -> dict[str, object]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: {error}") from error


def _put(values: dict[str, object], path: list[str], value: object) -> None:
    *tables, last = path
    for table in tables:
        inner = values.setdefault(table, {})
        if not isinstance(inner, dict):
            raise SettingsError(f"settings: {table} is a value, not a table")
        values = inner
    values[last] = value
