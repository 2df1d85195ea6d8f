"""The file beside a journal that says which cluster its server belongs to."""

from pathlib import Path

import msgspec

from vcap_es.adapters.storage.durable_files import replace_whole
from vcap_es.components.volumecap_server.belonging import Belonging
from vcap_es.errors import JournalDamaged
from vcap_es.events.clusters import ClusterName

FILE = "cluster"


def belonging_in(directory: Path) -> Belonging:
    """What `directory` has. Raises `JournalDamaged` where that cannot be a cluster."""
    path = directory / FILE
    return Belonging(_read(path), lambda cluster: replace_whole(path, cluster.encode()))


def _read(path: Path) -> str:
    try:
        return msgspec.convert(path.read_text(encoding="utf-8"), ClusterName)
    except FileNotFoundError:
        return ""
    except (UnicodeDecodeError, msgspec.ValidationError) as error:
        raise JournalDamaged(
            f"{path} does not say which cluster this server belongs to ({error}): write the "
            "cluster's name there, which `vcap primacy status` shows"
        ) from error
