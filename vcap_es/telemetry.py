"""Logs as JSON lines on standard error, one object a line, whatever text is in it."""

import logging
import sys

import msgspec
import structlog

LEVELS = ("debug", "info", "warning", "error", "critical")

_encode = msgspec.json.Encoder(enc_hook=str).encode


def _dumps(event: object, **_: object) -> str:
    return _encode(event).decode()


def configure(level: str, **context: str) -> None:
    """Write log lines of `level` and above, each with `context` (component, node, data centre)."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(**context)
