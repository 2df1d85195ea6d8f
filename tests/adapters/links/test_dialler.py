"""Dialling: one line to each address that is wanted, and patience with those where nobody is."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.support.fake_master import PATIENCE_SECONDS, fake_masters
from vcap_es.adapters.links.dialler import (
    GONE_SECONDS,
    REDIAL_SECONDS,
    SLOW_SECONDS,
    Dialler,
    Patience,
)
from vcap_es.adapters.links.link import LineClosed, Link

NOBODY = "http://127.0.0.1:9"


def test_a_line_that_lasted_is_dialled_again_at_once() -> None:
    """And after that ever less often, up to twice a second."""
    patience = Patience(0.0)
    assert patience.pause_s(0.0, 10.0, was_linked=True, has_others=False) == REDIAL_SECONDS[0]
    pauses = [patience.pause_s(10.0, 10.0, was_linked=False, has_others=True) for _ in range(10)]
    assert pauses == sorted(pauses)
    assert pauses[0] == 2 * REDIAL_SECONDS[0]
    assert pauses[-1] == REDIAL_SECONDS[1]


def test_a_line_that_did_not_last_is_no_reason_to_hurry() -> None:
    """Somebody who takes every line and drops it is not dialled fifty times a second."""
    patience = Patience(0.0)
    pauses = [patience.pause_s(5.0, 5.1, was_linked=True, has_others=False) for _ in range(10)]
    assert pauses[-1] == REDIAL_SECONDS[1]


def test_who_was_not_there_for_long_is_dialled_rarely() -> None:
    """As long as others are there; with nobody left, every address is tried often."""
    patience = Patience(0.0)
    later = GONE_SECONDS + 1
    pauses = [patience.pause_s(later, later, was_linked=False, has_others=True) for _ in range(10)]
    assert pauses[-1] == SLOW_SECONDS
    assert patience.pause_s(later, later, was_linked=False, has_others=False) == REDIAL_SECONDS[1]


async def holds(condition: Callable[[], bool]) -> None:
    """Wait until it does."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110  # a dialler has no events
            await asyncio.sleep(0.002)


def dialling(body: Callable[[Dialler, set[str], list[str]], Awaitable[None]]) -> None:
    """Run `body` beside a dialler, with the addresses that it wants and those it is linked to."""

    async def main() -> None:
        wanted, linked = set[str](), list[str]()

        async def serve(line: Link) -> None:
            linked.append(line.address)
            try:
                while True:
                    await line.receive()
            except LineClosed:
                pass
            finally:
                linked.remove(line.address)

        dialler = Dialler("secret", wanted=lambda: wanted, serve=serve)
        running = asyncio.create_task(dialler.run())
        try:
            await body(dialler, wanted, linked)
        finally:
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

    asyncio.run(main())


def test_what_is_wanted_may_change_at_any_time() -> None:
    """A new address is dialled, one that is not wanted any more is let go."""

    async def body(_: Dialler, wanted: set[str], linked: list[str]) -> None:
        async with fake_masters(2) as (first, second):
            wanted.add(first.url)
            await holds(lambda: linked == [first.url])
            wanted.add(second.url)
            await holds(lambda: linked == [first.url, second.url])
            wanted.discard(first.url)
            await holds(lambda: linked == [second.url])
            await first.until(lambda: first.links == 0)

    dialling(body)


def test_where_nobody_is_the_trouble_is_told_until_somebody_is() -> None:
    """And it is forgotten with the address."""

    async def body(dialler: Dialler, wanted: set[str], linked: list[str]) -> None:
        async with fake_masters(1) as (master,):
            await master.stop()
            wanted |= {master.url, NOBODY}
            await holds(lambda: all(dialler.troubles.get(each) for each in wanted))
            await master.start()
            await holds(lambda: linked == [master.url])
            wanted.discard(NOBODY)
            await holds(lambda: NOBODY not in dialler.troubles)

    dialling(body)


def test_an_address_that_is_none_is_a_trouble_like_any() -> None:
    """What a node was told by another may be wrong: it goes on with the rest."""

    async def body(dialler: Dialler, wanted: set[str], linked: list[str]) -> None:
        async with fake_masters(1) as (master,):
            odd = {"no address", "http://h:71000", "http://[::1"}
            wanted |= {*odd, master.url}
            await holds(lambda: linked == [master.url] and dialler.troubles.keys() >= odd)

    dialling(body)


def test_a_host_with_several_addresses_is_reached_at_the_one_that_answers() -> None:
    """A name may stand for an address of each kind, of which a node listens at one."""

    async def body(_: Dialler, wanted: set[str], linked: list[str]) -> None:
        async with fake_masters(1) as (master,):
            url = master.url.replace("127.0.0.1", "localhost")
            wanted.add(url)
            await holds(lambda: linked == [url])

    dialling(body)


def test_an_address_without_a_host_is_a_trouble() -> None:
    """What a node gave for its address may be none: it is told, and the others are dialled."""

    async def body(dialler: Dialler, wanted: set[str], linked: list[str]) -> None:
        async with fake_masters(1) as (master,):
            wanted |= {"http://", master.url}
            await holds(lambda: linked == [master.url])
            await holds(lambda: bool(dialler.troubles.get("http://")))

    dialling(body)
