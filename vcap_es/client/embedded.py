"""A volumecap server inside the caller's own process: a consume is a function call.

It keeps its journal in a directory of its own and gives back what is unspent when it is left, like
any other server; it only has no HTTP.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from time import CLOCK_BOOTTIME, clock_gettime_ns

from vcap_es.adapters.http.request_bodies import ITEMS_MAX, LIFETIME_MS_MAX
from vcap_es.adapters.volumecap_server.server_node import ServerNode
from vcap_es.components.messages.client import (
    Cancel,
    Commit,
    Consume,
    ConsumeAll,
    ConsumeEach,
    Hold,
    Refund,
)
from vcap_es.components.messages.outcomes import (
    Consumed,
    ConsumedAll,
    ConsumedEach,
    Held,
    Level,
    Refunded,
    Refused,
    Settled,
)
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.errors import InvalidInput
from vcap_es.events.amounts import check_amount
from vcap_es.events.definitions import check_cap_id
from vcap_es.shown import shown


class EmbeddedVolumecap:
    """Consumes from slices that this process holds itself.

        async with EmbeddedVolumecap(Path("caps"), masters=masters, secret=s) as caps:
            answer = caps.try_consume("campaign:4711") or await caps.consume("campaign:4711")

    Use it in the thread of its event loop. Every method raises InvalidAmount for what is no amount
    and InvalidInput for what is no id of a cap.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        masters: Sequence[str],
        secret: str,
        name: str = "embedded",
        limits: Limits | None = None,
    ) -> None:
        """Keep the journal in `directory`; be served by whichever of the `masters` (URLs) leads.

        `secret` is that of the nodes; `name` tells this process from others where people look.
        Raises JournalError where another process uses the directory.
        """
        self._node = ServerNode(
            Path(directory), name=name, masters=masters, secret=secret, limits=limits
        )
        self._consume_now = self._node.core.consume_now

    async def __aenter__(self) -> "EmbeddedVolumecap":
        """Link with the master in the background; until then, `consume` says `unavailable`."""
        await self._node.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Give everything unspent back."""
        await self._node.__aexit__()

    @property
    def incarnation(self) -> str:
        """The name of this journal's life; every id begins with it."""
        return self._node.incarnation

    def ready(self) -> list[tuple[str, bool, str]]:
        """Whether it can serve now: each check, its verdict, and a word on it."""
        return self._node.ready()

    async def failure(self) -> None:
        """Wait until this server cannot go on; raises why."""
        await self._node.failure()

    def try_consume(self, cap: str, amount: int = 1) -> Consumed | None:
        """Take and spend `amount` units if the slice here suffices; None: await `consume`.

        None is no refusal: it costs nothing, and more may be on its way.
        """
        if amount.__class__ is not int or amount < 1:
            check_amount(amount)
        return self._consume_now(cap, amount, clock_gettime_ns(CLOCK_BOOTTIME))

    async def consume(
        self, cap: str, amount: int = 1, *, minimum: int | None = None
    ) -> Consumed | Refused:
        """Take and spend `amount` units; with `minimum`, as many as there are but at least that.

        Waits for a topup if it must, at most about 50 ms.
        """
        outcome = await self._node.submit(_consume(cap, amount, minimum))
        assert isinstance(outcome, Consumed | Refused)
        return outcome

    async def consume_all(self, items: Mapping[str, int]) -> ConsumedAll | Refused:
        """Take and spend an amount of every cap, or nothing at all."""
        wishes = _wishes(items.items())
        outcome = await self._node.submit(ConsumeAll(items=wishes))
        assert isinstance(outcome, ConsumedAll | Refused)
        return outcome

    async def consume_each(self, items: Iterable[tuple[str, int]]) -> ConsumedEach | Refused:
        """Take each amount of its cap by itself; each has its own answer, in the same order."""
        wishes = _wishes(items)
        outcome = await self._node.submit(ConsumeEach(items=wishes))
        assert isinstance(outcome, ConsumedEach | Refused)
        return outcome

    async def hold(self, cap: str, amount: int, *, lifetime_ms: int) -> Held | Refused:
        """Take units that come back by themselves unless they are committed in time."""
        if type(lifetime_ms) is not int or not 1 <= lifetime_ms <= LIFETIME_MS_MAX:
            raise InvalidInput(f"lifetime_ms is 1 to {LIFETIME_MS_MAX}, not {shown(lifetime_ms)}")
        wish = Hold(cap=check_cap_id(cap), amount=check_amount(amount), lifetime_ms=lifetime_ms)
        outcome = await self._node.submit(wish)
        assert isinstance(outcome, Held | Refused)
        return outcome

    async def commit(self, hold_id: str, amount: int | None = None) -> Settled | Refused:
        """Spend `amount` units of the hold `hold_id`, or all of it; the rest comes back."""
        outcome = await self._node.submit(Commit(id=hold_id, amount=_some(amount)))
        assert isinstance(outcome, Settled | Refused)
        return outcome

    async def cancel(self, hold_id: str) -> Settled | Refused:
        """Give the whole hold `hold_id` back."""
        outcome = await self._node.submit(Cancel(id=hold_id))
        assert isinstance(outcome, Settled | Refused)
        return outcome

    async def refund(self, consume_id: str, amount: int | None = None) -> Refunded | Refused:
        """Give `amount` units of the consume `consume_id` back, or all that is left of it."""
        outcome = await self._node.submit(Refund(id=consume_id, amount=_some(amount)))
        assert isinstance(outcome, Refunded | Refused)
        return outcome

    async def lookup(self, cap: str) -> Level | Refused:
        """What is left of `cap`, here and in the data centre."""
        return await self._node.lookup(check_cap_id(cap))


def _consume(cap: str, amount: int, minimum: int | None = None) -> Consume:
    check_amount(amount)
    least = amount if minimum is None else min(check_amount(minimum), amount)
    return Consume(cap=check_cap_id(cap), minimum=least, maximum=amount)


def _wishes(items: Iterable[tuple[str, int]]) -> list[Consume]:
    wishes = [_consume(cap, amount) for cap, amount in items]
    if not 1 <= len(wishes) <= ITEMS_MAX:
        raise InvalidInput(f"{len(wishes)} items at once: give 1 to {ITEMS_MAX}")
    return wishes


def _some(amount: int | None) -> int | None:
    return None if amount is None else check_amount(amount)
