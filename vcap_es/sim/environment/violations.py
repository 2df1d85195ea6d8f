"""What a simulated life fails with."""


class Violation(AssertionError):
    """A checker has found what must never be; `check` is its name, such as `C3`."""

    def __init__(self, check: str, finding: str) -> None:
        super().__init__(f"{check} {finding}")
        self.check = check
