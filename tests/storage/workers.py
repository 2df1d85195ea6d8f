"""Many seeds on all cores; the first failure tells how to see it again."""

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from tests.storage.cases import KINDS, Tally

_IN_MEMORY = Path("/dev/shm")  # where there is one: what is durable is modelled, not asked for


@contextmanager
def workers() -> Iterator[ProcessPoolExecutor]:
    """A process for each core; begun anew, as a fork would copy what threads hold."""
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        yield pool


def tally(pool: ProcessPoolExecutor, kind: str, seeds: int) -> Tally:
    """What came of so many seeds of a kind of case."""
    total = Tally()
    for each in pool.map(partial(_one, kind), range(seeds), chunksize=max(1, seeds // 16)):
        total += each
    return total


def _one(kind: str, seed: int) -> Tally:
    folder = _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else None
    try:
        with tempfile.TemporaryDirectory(prefix="vcap-storage-", dir=folder) as name:
            return KINDS[kind](seed, Path(name))
    except Exception as error:
        raise AssertionError(
            f"seed {seed}: {error!r}; see it again: python -m tests.storage {kind} {seed}"
        ) from error
