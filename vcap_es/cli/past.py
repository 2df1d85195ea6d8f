"""Asking a log file what a master would be asked, without one."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from vcap_es.adapters.past.answers import Lookup, Sheet, answer
from vcap_es.adapters.past.archive import Archive
from vcap_es.adapters.past.index import Index, index_path
from vcap_es.adapters.past.messages import AnyQuestion
from vcap_es.cli.refusal import Refusal
from vcap_es.clock import boot_ns
from vcap_es.errors import RequestRefused
from vcap_es.events.facts import NodeAddressChanged
from vcap_es.events.logs.sqlite_pages import SqlitePages
from vcap_es.projections.states.node import NodeSeen, evolve

LogFile = Annotated[
    Path | None,
    Parameter(
        name="--log",
        help="Read this log file, and ask no master; nothing is changed in it.",
    ),
]


class PastFile:
    """The past of a log file, up to what is surely committed in it; see `opened`."""

    def __init__(self, pages: SqlitePages, archive: Archive) -> None:
        self._pages, self._archive = pages, archive
        self.until = pages.committed()

    def ask(self, question: AnyQuestion) -> Any:
        """The JSON of the answer. Raises like a master: `Refusal` where it says no."""
        try:
            return msgspec.json.decode(b"".join(self._parts(question)))
        except RequestRefused as refused:
            raise Refusal(0, {"code": refused.code, "detail": str(refused)}) from refused

    def grow(self) -> None:
        """Look at what has been committed since."""
        self.until = max(self.until, self._pages.committed())

    def last_instant(self) -> int:
        """When the last event was recorded, in microseconds UTC; 0 where there is none."""
        events = self._pages.events(self.until - 1, self.until, limit=1).events
        return events[0].recorded_at if events else 0

    def _parts(self, question: AnyQuestion) -> Iterator[bytes]:
        steps = answer(self._archive, question, self.until)
        given = next(steps)
        while True:
            if isinstance(given, Sheet):
                yield given.body
                if given.is_last:
                    return
            given = steps.send(self._names()) if isinstance(given, Lookup) else next(steps)

    def _names(self) -> Mapping[str, str]:
        """What servers were called last; groups are wanted for keys alone, and a file has none."""
        nodes: dict[str, NodeSeen] = {}
        after = 0
        while after < self.until:
            page = self._pages.events(after, self.until, kind=NodeAddressChanged.__name__)
            for event in page.events:
                if isinstance(event.fact, NodeAddressChanged):
                    evolve(nodes, event.fact)
            after = page.reached
        return {node: seen.name for node, seen in nodes.items()}


@contextmanager
def opened(path: Path) -> Iterator[PastFile]:
    """The past of the log at `path`, with the index beside it where there is one.

    What is on the disk and was not committed yet, as far as the file knows, is left out, which is
    said on standard error.
    """
    pages = SqlitePages(path, boot_ns)
    index = Index(index_path(path), pages.link_at, writes=False)
    try:
        found = PastFile(pages, Archive(pages, index))
        if more := pages.head().position - found.until:
            sys.stderr.write(
                f"vcap: {path}: {more} events after position {found.until} are not known to be"
                " committed, and left out\n"
            )
        yield found
    finally:
        index.close()
        pages.close()
