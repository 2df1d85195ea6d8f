"""How a refused value is shown in a message: its type, and never more than a line of it."""

import reprlib


class _Brief(reprlib.Repr):
    """A `repr` whose length is bounded, whatever comes."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 80

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write out an integer of thousands of digits.
        if x.bit_length() > 128:
            return f"<integer of {x.bit_length()} bits>"
        return super().repr_int(x, level)


_brief = _Brief()


def shown(value: object) -> str:
    """`value` for a message to a person, as in `'7' (str)`; at most a few hundred characters."""
    return f"{_brief.repr(value)} ({type(value).__name__})"
