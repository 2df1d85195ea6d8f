"""What stands behind a ballot that is being written waits until that is durable."""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from vcap_es.components.consensus.voter import SaveBallot
from vcap_es.sim.environment.disks import BallotDisk

T = TypeVar("T")


class Gate(Generic[T]):
    """Does outputs in order; a `SaveBallot` holds up all after it until it is written."""

    def __init__(
        self,
        disk: BallotDisk,
        later: Callable[[Callable[[], None]], None],
        do: Callable[[T], None],
    ) -> None:
        """Write to `disk`, which takes as long as `later` waits; pass all others to `do`."""
        self._disk, self._later, self._do = disk, later, do
        self._waiting: deque[T | SaveBallot] = deque()

    def put(self, output: "T | SaveBallot") -> None:
        """Do this behind all that waits."""
        self._waiting.append(output)
        self._go_on()

    def _go_on(self) -> None:
        while self._waiting and self._disk.writing is None:
            output = self._waiting.popleft()
            if isinstance(output, SaveBallot):
                self._disk.writing = output.ballot
                self._later(self._kept)
            else:
                self._do(output)

    def _kept(self) -> None:
        assert self._disk.writing is not None
        self._disk.ballot, self._disk.writing = self._disk.writing, None
        self._go_on()
