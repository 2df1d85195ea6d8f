"""Exact volume caps across servers and data centres, on a replayable event log.

The names that a user needs are here; they are loaded when they are first used, so that a server or
a command does not load what only clients use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from vcap_es.version import __version__

if TYPE_CHECKING:
    from vcap_es.client import (
        AsyncVolumecapClient,
        Consumed,
        EmbeddedVolumecap,
        Refused,
        VolumecapClient,
    )

__all__ = [
    "AsyncVolumecapClient",
    "Consumed",
    "EmbeddedVolumecap",
    "Refused",
    "VolumecapClient",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(import_module("vcap_es.client"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
