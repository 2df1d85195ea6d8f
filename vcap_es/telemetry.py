"""Logs as JSON lines on standard error, one object a line, whatever text is in it.

Lines are printable ASCII: no control character, line separator or mark of direction that a user
wrote reaches a terminal, and each is there as its escape.
"""

import json
import logging
import sys

import structlog


def _dumps(event: object, **_: object) -> str:
    return json.dumps(event, ensure_ascii=True, default=str, separators=(",", ":"))


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
