"""What took longer than it should: told to people while it lasts, with what it waits for."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from vcap_es.clock import boot_ns
from vcap_es.components.master.master import Master
from vcap_es.events.units import MS

COMMIT_MS = 200
"""An acknowledgement that takes longer is told of."""

DISK_MS = 100
"""A write that takes longer is told of."""

PAUSED_MS = 200
"""A node that was not run for longer, beyond what it had asked for, is told of."""

log = structlog.get_logger()


class Stalls:
    """Looks at a master again and again; each thing that it waits for is told once."""

    def __init__(self) -> None:
        self._told = ""

    def look(self, core: Master, wanted_ns: int) -> None:
        """`wanted_ns` is when this was to be called, on the boot clock."""
        now_ns = boot_ns()
        if now_ns - wanted_ns > PAUSED_MS * MS:
            log.warning("this process was not run", ms=(now_ns - wanted_ns) // MS)
        waited_ns, why = core.leadership.hindrance(now_ns) if core.leadership else (0, "")
        if waited_ns < COMMIT_MS * MS:
            why = ""
        if why and why != self._told:
            log.info("commit waits", ms=waited_ns // MS, why=why)
        elif self._told and not why:
            log.info("commit goes on")
        self._told = why


@contextmanager
def timed(what: str, **details: object) -> Iterator[None]:
    """Tell of a write that takes long."""
    begun_ns = boot_ns()
    try:
        yield
    finally:
        took_ms = (boot_ns() - begun_ns) // MS
        if took_ms > DISK_MS:
            log.warning("slow disk", what=what, ms=took_ms, **details)
