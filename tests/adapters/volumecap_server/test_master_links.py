"""A server's links to its masters: whom it serves from, and how a witness answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec import structs

from tests.support.fake_master import PATIENCE_SECONDS, FakeMaster, fake_masters
from vcap_es.adapters.storage.ballot_file import BallotFile
from vcap_es.adapters.storage.ballots import Ballots
from vcap_es.adapters.volumecap_server.server_node import ServerNode
from vcap_es.components.consensus.timings import Timings
from vcap_es.components.consensus.voter import Ballot
from vcap_es.components.decisions.primacy import Config
from vcap_es.components.messages.master import (
    Accept,
    Accepted,
    Heartbeat,
    HeartbeatAnswer,
    Prepare,
    Prevote,
    Promise,
    Refusal,
)
from vcap_es.components.messages.server import Hello, Keyring, Report, Watch
from vcap_es.events.facts import ApiKeyCreated

SECRET = "0123456789abcdef" * 4
TIMINGS = Timings(sticky_ms=600_000)
"""So patient that only a lost line can make a witness forget its leader."""


@asynccontextmanager
async def server(
    directory: Path, masters: list[FakeMaster], ballots: Ballots | None = None
) -> AsyncIterator[ServerNode]:
    """A server that is linked to all of them."""
    node = ServerNode(
        directory,
        name="s1",
        masters=[each.url for each in masters],
        secret=SECRET,
        synchronous=False,
        ballots=ballots,
        timings=TIMINGS,
    )
    before = [len(each.all_of(Hello)) for each in masters]
    async with node:
        for each, known in zip(masters, before, strict=True):
            await each.hears(Hello, known + 1)
        yield node


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something that has no event of its own is so."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():  # noqa: ASYNC110  # a node tells, but has no event
            await asyncio.sleep(0.002)


def run(count: int, body: Callable[[list[FakeMaster]], Awaitable[None]]) -> None:
    """Run `body` beside so many masters."""

    async def main() -> None:
        async with fake_masters(count) as masters:
            await body(masters)

    asyncio.run(main())


def keyring(epoch: int, name: str) -> Keyring:
    """All keys are this one, says the leader of `epoch`."""
    key = ApiKeyCreated(key=name, digest=b"", role="client", scopes=["*"], expires_at=None)
    return Keyring(epoch=epoch, keys=[key])


# ---- whom it serves from


def test_it_serves_from_the_master_that_leads(tmp_path: Path) -> None:
    """All are told who it is; only the leader is told anything else."""

    async def check(masters: list[FakeMaster]) -> None:
        first, second = masters
        async with server(tmp_path, masters) as node:
            assert not node.links.is_linked
            await second.lead(5)
            asking = asyncio.create_task(node.lookup("c"))
            watch = await second.next(Watch)
            assert watch.caps == ["c"]
            assert (node.links.leader, node.links.epoch) == (second.url, 5)
            assert first.all_of(Watch) == []
            assert [len(each.all_of(Hello)) for each in masters] == [1, 1]
            asking.cancel()

    run(2, check)


def test_a_new_leader_is_told_everything_anew(tmp_path: Path) -> None:
    """At its first word, while the line to the old one is open; that one is heard no more."""

    async def check(masters: list[FakeMaster]) -> None:
        first, second = masters
        async with server(tmp_path, masters) as node:
            await first.lead(4)
            asking = asyncio.create_task(node.lookup("c"))
            await first.next(Watch)
            # When another one leads
            await second.lead(5)
            assert (await second.next(Watch)).caps == ["c"]
            # Then what the old one still says is not heard
            await first.say(keyring(4, "old"))
            await second.say(keyring(5, "new"))
            await eventually(lambda: "new" in node.keys)
            await first.say(keyring(4, "old"))
            assert list(node.keys) == ["new"]
            assert node.links.switches == 2
            asking.cancel()

    run(2, check)


def test_a_master_that_leads_anew_on_the_same_line_is_told_everything_anew(
    tmp_path: Path,
) -> None:
    """It lost its place and took it again: what it was told before, it has forgotten."""

    async def check(masters: list[FakeMaster]) -> None:
        [only] = masters
        async with server(tmp_path, masters) as node:
            await only.lead(4)
            asking = asyncio.create_task(node.lookup("c"))
            await only.next(Watch)
            await eventually(lambda: not node.core.holdings.reporter._asked)
            before = len(only.all_of(Watch))
            await only.lead(6)
            await only.hears(Watch, before + 1)
            assert node.links.epoch == 6
            asking.cancel()

    run(1, check)


def test_who_speaks_as_a_leader_is_one(tmp_path: Path) -> None:
    """Any message with an epoch says who leads it, should the word itself be missed."""

    async def check(masters: list[FakeMaster]) -> None:
        [only] = masters
        async with server(tmp_path, masters) as node:
            await only.say(keyring(3, "k"))
            await eventually(lambda: "k" in node.keys)
            assert (node.links.is_linked, node.links.epoch) == (True, 3)

    run(1, check)


def test_without_a_leader_nothing_is_told(tmp_path: Path) -> None:
    """The line to the leader broke, and the other master does not lead: it waits for one."""

    async def check(masters: list[FakeMaster]) -> None:
        first, second = masters
        async with server(tmp_path, masters) as node:
            await first.lead(4)
            await eventually(lambda: node.links.is_linked)
            await first.stop()
            await eventually(lambda: not node.links.is_linked)
            asking = asyncio.create_task(node.lookup("c"))
            await second.lead(5)
            assert (await second.next(Watch)).caps == ["c"]
            assert [type(each) for each in second.heard if not isinstance(each, Report)] == [
                Hello,
                Watch,
            ]
            asking.cancel()
            await first.start()

    run(2, check)


def test_a_master_that_comes_back_is_linked_again(tmp_path: Path) -> None:
    """Also one that does not lead, for it may have to soon."""

    async def check(masters: list[FakeMaster]) -> None:
        first, second = masters
        async with server(tmp_path, masters) as node:
            await first.lead(4)
            await second.stop()
            await second.start()
            await second.hears(Hello, 2)
            hellos = second.all_of(Hello)
            assert structs.replace(hellos[0], utc=hellos[1].utc) == hellos[1]
            assert node.links.leader == first.url

    run(2, check)


def test_the_start_of_a_server_is_its_stamp(tmp_path: Path) -> None:
    """What it says of itself after a start holds against what it said before."""

    async def check(masters: list[FakeMaster]) -> None:
        [only] = masters
        for _ in range(2):
            async with server(tmp_path, masters):
                pass
        first, second = only.all_of(Hello)
        assert (first.stamp, second.stamp) == (1, 2)
        assert first.incarnation == second.incarnation
        assert first.session != second.session
        assert first.voter == second.voter == ""

    run(1, check)


# ---- a witness

CONFIG = Config(2, 1, "m0-" + "0" * 32, ("m0-" + "0" * 32,), ("m0-" + "0" * 32, "w-s1-a"))


def ballot(directory: Path) -> BallotFile:
    """The ballot of the witness."""
    return BallotFile.open(directory / "ballot", lambda: "w-s1-a")


def heartbeat(epoch: int) -> Heartbeat:
    """A sign of life of a leader."""
    return Heartbeat(epoch=epoch, committed=7, sent_ns=1)


def test_a_witness_answers_on_the_line_that_it_was_asked_on(tmp_path: Path) -> None:
    """It holds what the leader decided, follows it, and refuses others while it hears it."""

    async def check(masters: list[FakeMaster]) -> None:
        first, second = masters
        with_ballot = ballot(tmp_path)
        async with server(tmp_path / "s1", masters, with_ballot) as node:
            assert first.all_of(Hello)[0].voter == "w-s1-a"
            assert [name for name, _, _ in node.ready()] == ["link", "keys", "witness"]
            await first.greet()
            await second.greet()
            await first.say(Accept(config=CONFIG), heartbeat(2))
            await first.hears(HeartbeatAnswer)
            assert first.all_of(Accepted) == [Accepted(epoch=2, version=1)]
            # When another one would lead while the leader is there
            await second.say(Prevote(epoch=3, transfer=0))
            await second.hears(Refusal)
            # Then not, but at once when the line to the leader broke
            await first.stop()
            await eventually(lambda: first.url not in node.links.masters)
            await second.say(Prepare(epoch=3, transfer=0))
            await second.hears(Promise)
            assert second.all_of(Promise) == [
                Promise(epoch=3, is_firm=True, config=CONFIG, committed=7)
            ]
            assert (with_ballot.ballot.promised, with_ballot.ballot.promised_to) == (3, second.node)
            assert first.all_of(Promise) == []
            await first.start()
        with_ballot.close()

    run(2, check)


def test_a_witness_keeps_its_promises_over_a_start(tmp_path: Path) -> None:
    """The first leader comes back with its old epoch: it is refused."""

    async def check(masters: list[FakeMaster]) -> None:
        first, second = masters
        with_ballot = ballot(tmp_path)
        with_ballot.keep(
            Ballot(node="w-s1-a", start=1, promised=3, promised_to=second.node, config=CONFIG)
        )
        with_ballot.close()
        again = ballot(tmp_path)
        async with server(tmp_path / "s1", masters, again):
            await first.greet()
            await first.say(heartbeat(2))
            await first.hears(Refusal)
            assert first.all_of(Refusal) == [Refusal(epoch=2, promised=3)]
        again.close()

    run(2, check)


def test_who_does_not_say_who_it_is_gets_no_promise(tmp_path: Path) -> None:
    """And a server that is no witness has no vote."""

    async def check(masters: list[FakeMaster]) -> None:
        first, second = masters
        with_ballot = ballot(tmp_path)
        async with server(tmp_path / "s1", masters, with_ballot):
            await first.say(Accept(config=CONFIG))
            await first.greet()
            await first.say(heartbeat(2))
            await first.hears(HeartbeatAnswer)
            assert first.all_of(Accepted) == []
        with_ballot.close()
        async with server(tmp_path / "s2", [second]) as node:
            await second.greet()
            await second.say(heartbeat(2), keyring(2, "k"))
            await eventually(lambda: node.ready_keys)
            assert second.all_of(HeartbeatAnswer) == []

    run(2, check)


class FailingBallots:
    """A ballot on a disk that fails."""

    def __init__(self) -> None:
        self.ballot = Ballot(node="w-s1-a", config=CONFIG, promised=2)

    def keep(self, ballot: Ballot) -> None:
        """Nothing is kept."""
        raise OSError(5, "Input/output error")


def test_a_promise_that_cannot_be_kept_is_not_given(tmp_path: Path) -> None:
    """The server stops, loudly, and answers nothing more: it does not know what it has promised."""

    async def check(masters: list[FakeMaster]) -> None:
        [only] = masters
        async with server(tmp_path / "s1", masters, FailingBallots()) as node:
            await only.greet()
            await only.say(Accept(config=Config(4, 1, only.node, (only.node,), (only.node,))))
            with pytest.raises(OSError, match="Input/output"):
                await asyncio.wait_for(node.failure(), PATIENCE_SECONDS)
            links = only.links
            await only.say(heartbeat(4))
        await only.until(lambda: only.links == 0)
        assert links == 1
        assert only.all_of(Accepted) == []
        assert only.all_of(HeartbeatAnswer) == []

    run(1, check)
