"""A cap that another data centre is asked to define by its template."""

from msgspec import Struct


class Awaited(Struct):
    """How long is waited next, and until when now."""

    wait: int
    due: int
