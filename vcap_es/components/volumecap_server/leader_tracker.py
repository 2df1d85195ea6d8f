"""Which of the linked masters a server serves from: the one that leads the highest epoch."""


class LeaderTracker:
    """What the masters at the other ends of some lines have said of their leading.

    Lines are numbered from 1 in the order in which they were made.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.line: int | None = None

    def leads(self, line: int, epoch: int) -> bool:
        """The master on `line` leads `epoch`; True where it is to be followed from now on.

        A new epoch of the same master is news too: it has forgotten what it was told. An epoch has
        one leader, so of two lines with the same epoch it listens to the newer one.
        """
        is_newer = self.line is None or line > self.line
        if epoch < self.epoch or (epoch == self.epoch and not is_newer):
            return False
        self.line, self.epoch = line, epoch
        return True

    def gone(self, line: int) -> bool:
        """The line is gone; True where it was the one that was followed."""
        if line != self.line:
            return False
        self.line = None
        return True
