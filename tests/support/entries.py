"""Events as another log sealed them, for the tests of copies."""

from itertools import count

from tests.support.drafts import drafts
from vcap_es.events.chain import Stored
from vcap_es.events.log import Head, head_of
from vcap_es.events.sealing import seal

_marks = count(1)


def entries(*sizes: tuple[int, int], behind: Head | None = None) -> list[Stored]:
    """So many events of each epoch, `(epoch, amount)`, right behind a head, or from the start."""
    head, sealed = behind or Head(), list[Stored]()
    for epoch, amount in sizes:
        sealed += seal(drafts(amount, cap=f"ads:{next(_marks)}"), epoch, head)
        head = head_of(sealed[-1])
    return sealed
