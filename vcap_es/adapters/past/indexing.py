"""Keeps the index of a log up to date, step by step, for caps that have many events.

A cap with few events is read whole where it is asked for; so what is counted here may be
forgotten.
"""

from collections import Counter

import structlog

from vcap_es.adapters.past.archive import Archive, Steps
from vcap_es.errors import LogError, VcapError
from vcap_es.events.codec import caps_in
from vcap_es.projections.lives import CapLife

CAPS_COUNTED_MAX = 100_000
"""With more caps than that, counting begins anew."""

log = structlog.get_logger()


class Indexing:
    """Looks at every committed event once, and writes the chapters that have become due."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._counts: Counter[str] = Counter()
        self._due: list[tuple[str, int]] = []
        self._reading: Steps[CapLife] | None = None
        self._is_stopped = False

    def step(self, until: int) -> bool:
        """Do one step towards the position `until`; gives whether there was anything to do."""
        if self._is_stopped or self._archive.index.failure:
            return False
        try:
            return self._step(until)
        except VcapError as error:
            # Whoever verifies the log, or asks for the cap, is told more.
            log.error("the log is indexed no further", error=str(error))
            self._is_stopped = True
            return False

    def _step(self, until: int) -> bool:
        scanned = self._archive.index.scanned
        if self._reading is not None:
            self._reading = self._reading if _goes_on(self._reading) else None
        elif self._due:
            self._reading = self._archive.life(*self._due.pop(0))
        elif scanned < until:
            self._scan(scanned, until)
        else:
            return False
        return True

    def _scan(self, after: int, until: int) -> None:
        page = self._archive.pages.stored(after, until)
        for entry in page.events:
            try:
                caps = caps_in(entry.fact)
            except (ValueError, IndexError) as error:  # a fact that ends too soon, or is no text
                raise LogError(f"position {entry.position}: no fact is like that") from error
            for cap in caps:
                self._counts[cap] += 1
                if self._counts[cap] >= self._archive.index.apart(cap):
                    del self._counts[cap]
                    self._due.append((cap, entry.position))
        if len(self._counts) > CAPS_COUNTED_MAX:
            self._counts.clear()
        self._archive.index.has_scanned(page.reached)


def _goes_on(steps: Steps[CapLife]) -> bool:
    try:
        next(steps)
    except StopIteration:
        return False
    return True
