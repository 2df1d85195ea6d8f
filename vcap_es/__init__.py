"""Exact volume caps across servers and data centres, on a replayable event log."""

from vcap_es.version import __version__

__all__ = ["__version__"]
