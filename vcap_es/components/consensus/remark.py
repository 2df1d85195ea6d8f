"""A remark: for people who read afterwards why something took as long as it did."""

from collections.abc import Mapping

from msgspec import Struct


class Remark(Struct, frozen=True, gc=False):
    """`what` happened in a few fixed words, and what else there is to say of it, by name."""

    what: str
    details: Mapping[str, str | int]

    def __str__(self) -> str:
        """In one line."""
        return " ".join([self.what, *(f"{name}={told}" for name, told in self.details.items())])
