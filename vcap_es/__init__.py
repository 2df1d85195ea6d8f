"""Exact volume caps across servers and data centres, on a replayable event log."""

__version__ = "0.1.0"
