"""Where masters were, in a small file beside a journal: a restart needs nobody's help.

It is only a help: a file that is missing or damaged says nothing, and one that cannot be written is
told in the log.
"""

from pathlib import Path

import msgspec
import structlog

from vcap_es.adapters.storage.durable_files import replace_whole

FILE = "masters"

log = structlog.get_logger()


def remembered(directory: Path) -> list[str]:
    """The addresses in the file, the best one first."""
    try:
        return msgspec.json.decode((directory / FILE).read_bytes(), type=list[str])
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError) as error:
        log.warning("what was remembered of masters is lost", error=str(error))
        return []


def remember(directory: Path, addresses: list[str]) -> None:
    """Keep these addresses instead, whole or not at all."""
    try:
        replace_whole(directory / FILE, msgspec.json.encode(addresses))
    except OSError as error:
        log.warning("where the masters are cannot be kept", error=str(error))
