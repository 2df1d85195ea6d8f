"""Nodes find each other: whoever knows one live node knows all, and hears of every move at once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.deployment import free_ports
from tests.support.primary import PATIENT, SECRET
from vcap_es.adapters.http.callers import create_key
from vcap_es.adapters.http.client_plane.app import client_app
from vcap_es.adapters.http.client_plane.fast_lane import fast_lane
from vcap_es.adapters.http.client_plane.plane import ClientPlane
from vcap_es.adapters.http.control_plane.app import control_app
from vcap_es.adapters.http.server import serving
from vcap_es.adapters.links.discovery import ask_masters
from vcap_es.adapters.master.master_node import MasterNode
from vcap_es.adapters.storage.ballot_file import BallotFile
from vcap_es.adapters.storage.ballots import Ballots
from vcap_es.adapters.storage.master_addresses_file import FILE, remember, remembered
from vcap_es.adapters.volumecap_server.server_node import ServerNode
from vcap_es.clock import boot_ns
from vcap_es.components.consensus.voter import founded
from vcap_es.components.decisions.meta import Define
from vcap_es.components.decisions.primacy import master_id, witness_id
from vcap_es.components.messages.client import Consume
from vcap_es.components.messages.outcomes import Consumed
from vcap_es.components.volumecap_server.keys.ledger import DIGEST_BYTES, record_of
from vcap_es.errors import Unreachable
from vcap_es.events.facts import Definition
from vcap_es.events.logs.memory import MemoryLog

HOST = "127.0.0.1"
PATIENCE_SECONDS = 20


class Site:
    """One master and any number of servers, each at a URL of its own."""

    def __init__(self, directory: Path, stack: AsyncExitStack, http: httpx2.AsyncClient) -> None:
        self.directory, self.stack, self.http = directory, stack, http
        self.log = MemoryLog()
        self.keys: dict[str, str] = {}

    @asynccontextmanager
    async def master(self, port: int = 0) -> AsyncIterator[tuple[MasterNode, str]]:
        """The master, and where it is reached."""
        port = port or free_ports(1)[0]
        url = f"http://{HOST}:{port}"
        async with MasterNode(self.log, dc="dc1", name="m0", secret=SECRET, address=url) as node:
            for role in ("client", "auditor"):
                if role not in self.keys:
                    made = await create_key(
                        node, role=role, scopes=["*"], random=role.ljust(40).encode()
                    )
                    assert isinstance(made, tuple)
                    self.keys[role] = made[1]
            async with serving(control_app(node), host=HOST, port=port, websockets=True):
                yield node, url

    @asynccontextmanager
    async def one_of_two_masters(
        self, slot: int, peers: Sequence[str] = ()
    ) -> AsyncIterator[tuple[MasterNode, str]]:
        """A master that is elected, and where it is reached; that of slot 0 founds the cluster."""
        port = free_ports(1)[0]
        url = f"http://{HOST}:{port}"
        path = self.directory / f"master{slot}" / "ballot"
        ballots = BallotFile.open(path, lambda: master_id(slot, f"{slot}" * 32))
        if slot == 0 and ballots.ballot.config is None:
            ballots.keep(founded(ballots.ballot, "c1" * 16))
        node = MasterNode(
            MemoryLog(),
            dc="dc1",
            name=f"m{slot}",
            secret=SECRET,
            ballots=ballots,
            slot=slot,
            address=url,
            peers=peers,
        )
        async with node, serving(control_app(node), host=HOST, port=port, websockets=True):
            yield node, url
        ballots.close()

    @asynccontextmanager
    async def server(
        self,
        name: str,
        *,
        masters: Sequence[str] = (),
        join: Sequence[str] = (),
        port: int = 0,
        ballots: Ballots | None = None,
    ) -> AsyncIterator[tuple[ServerNode, str]]:
        """A server, and where it is reached; with a ballot it is a witness."""
        port = port or free_ports(1)[0]
        url = f"http://{HOST}:{port}"
        node = ServerNode(
            self.directory / name,
            name=name,
            masters=masters,
            join=join,
            secret=SECRET,
            address=url,
            limits=PATIENT,
            synchronous=False,
            ballots=ballots,
        )
        plane = ClientPlane(node)
        async with (
            node,
            serving(client_app(plane), host=HOST, port=port, speaking=fast_lane(plane)),
        ):
            yield node, url

    async def nodes_at(self, url: str) -> dict[str, Any]:
        """The nodes that are known at `url`, by name."""
        headers = {"Authorization": f"Bearer {self.keys['auditor']}"}
        answer = await self.http.get(f"{url}/v1/nodes", headers=headers)
        if answer.status_code != 200:
            return {}
        return {each["name"]: each for each in answer.json()["nodes"]}


def at_a_site(directory: Path, body: Callable[[Site], Awaitable[None]]) -> None:
    """Run `body` there."""

    async def main() -> None:
        async with AsyncExitStack() as stack, asyncio.timeout(60):
            http = httpx2.AsyncClient(timeout=PATIENCE_SECONDS)
            await stack.enter_async_context(http)
            await body(Site(directory, stack, http))

    asyncio.run(main())


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something asked over HTTP is so."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await holds():  # noqa: ASYNC110  # asks over HTTP
            await asyncio.sleep(0.01)


async def ready(node: ServerNode) -> None:
    """Wait until a server can serve."""

    async def is_ready() -> bool:
        return all(is_fine for _, is_fine, _ in node.ready())

    await eventually(is_ready)


async def consume(node: ServerNode, amount: int) -> Consumed:
    """Consume, which must succeed."""
    outcome = await node.submit(Consume(cap="c", minimum=amount, maximum=amount))
    assert isinstance(outcome, Consumed), outcome
    return outcome


async def define(master: MasterNode, total: int) -> None:
    """The cap that the tests consume from."""
    definition = Definition(total=total, interval="month")
    await master.submit(Define(cap="c", definition=definition), actor="test", correlation="")


def test_five_servers_that_know_one_know_all(tmp_path: Path) -> None:
    """The first knows the master, the others only the first; every one lists everybody."""

    async def check(site: Site) -> None:
        _, master_url = await site.stack.enter_async_context(site.master())
        first, first_url = await site.stack.enter_async_context(
            site.server("s1", masters=[master_url])
        )
        urls = {"s1": first_url}
        others = []
        for name in ("s2", "s3", "s4", "s5"):
            node, urls[name] = await site.stack.enter_async_context(
                site.server(name, join=[first_url])
            )
            others.append(node)
        expected = {"m0": master_url, **urls}

        async def all_know_all() -> bool:
            known = [await site.nodes_at(url) for url in expected.values()]
            return all(
                {name: each["address"] for name, each in found.items()} == expected
                and {each["presence"] for each in found.values()} == {"connected"}
                for found in known
            )

        await eventually(all_know_all)
        assert all(each.links.leader == master_url for each in (first, *others))

    at_a_site(tmp_path, check)


def test_a_node_may_join_before_the_one_that_it_knows(tmp_path: Path) -> None:
    """It asks again and again, also one that knows no master yet."""

    async def check(site: Site) -> None:
        port, master_port = free_ports(2)
        master_url = f"http://{HOST}:{master_port}"
        late, _ = await site.stack.enter_async_context(
            site.server("late", join=[f"http://{HOST}:{port}"])
        )
        assert "no primary" in late.ready()[0][2]
        await site.stack.enter_async_context(site.server("s1", masters=[master_url], port=port))
        await site.stack.enter_async_context(site.master(master_port))
        await ready(late)

    at_a_site(tmp_path, check)


def test_a_restart_needs_nobodys_help(tmp_path: Path) -> None:
    """Where the masters are is kept beside the journal: nobody is asked a second time."""

    async def check(site: Site) -> None:
        _, master_url = await site.stack.enter_async_context(site.master())
        async with (
            site.server("helper", masters=[master_url]) as (_, helper_url),
            site.server("s1", join=[helper_url]) as (node, _),
        ):
            await ready(node)
        assert remembered(tmp_path / "s1") == [master_url]
        async with site.server("s1", join=[helper_url]) as (node, _):
            await ready(node)

    at_a_site(tmp_path, check)


def test_a_server_that_moves_keeps_its_slice_and_misses_no_broadcast(tmp_path: Path) -> None:
    """At its new address it has what it had and hears what changed; all hear where it is."""

    async def check(site: Site) -> None:
        master, master_url = await site.stack.enter_async_context(site.master())
        _, other_url = await site.stack.enter_async_context(
            site.server("other", masters=[master_url])
        )
        await define(master, 1000)
        # Given a server that is killed with a slice, and what it gave out
        old_stack = await site.stack.enter_async_context(AsyncExitStack())
        node, old_url = await old_stack.enter_async_context(
            site.server("mover", masters=[master_url])
        )
        await ready(node)
        taken = await consume(node, 5)
        held = next(iter(node.core.holdings.slices.values())).received
        await kill(node)
        await old_stack.aclose()
        # When the cap changes meanwhile, and the server comes back elsewhere
        await define(master, 2000)
        async with site.server("mover", masters=[master_url]) as (moved, new_url):
            await ready(moved)
            # Then
            assert moved.incarnation == node.incarnation
            found = next(iter(moved.core.holdings.slices.values()))
            assert found.received >= held

            async def heard() -> bool:
                return found.total == 2000

            await eventually(heard)

            async def told() -> bool:
                known = (await site.nodes_at(other_url)).get("mover", {})
                return (known.get("address"), known.get("stamp")) == (new_url, 2)

            await eventually(told)
            assert old_url != new_url
            # And a refund that is asked elsewhere finds it
            headers = {"Authorization": f"Bearer {site.keys['client']}"}
            answer = await site.http.post(
                f"{other_url}/v1/caps/c/refund", json={"id": taken.id}, headers=headers
            )
            assert (answer.status_code, answer.json()["refunded"]) == (200, 5)

    at_a_site(tmp_path, check)


async def kill(node: ServerNode) -> None:
    """Let it end as a killed process does: nothing is given back."""
    for task in node._tasks:
        task.cancel()
    await asyncio.gather(*node._tasks, return_exceptions=True)
    node._fail(Unreachable("killed by a test"))


def test_a_master_that_moves_is_found(tmp_path: Path) -> None:
    """A server that missed the move asks those that it knows, and goes on with its slice."""

    async def check(site: Site) -> None:
        port = free_ports(1)[0]
        async with AsyncExitStack() as first:
            master, master_url = await first.enter_async_context(site.master())
            # Given a server that was told only one address, and another that knows both
            node, _ = await site.stack.enter_async_context(site.server("s1", masters=[master_url]))
            sibling, _ = await site.stack.enter_async_context(
                site.server("s2", masters=[master_url, f"http://{HOST}:{port}"])
            )
            await define(master, 1000)
            await ready(node)
            await ready(sibling)
            await consume(node, 5)

            async def knows() -> bool:
                return len(node.addresses) == 2

            await eventually(knows)
        # When the master starts again elsewhere
        _, moved_url = await site.stack.enter_async_context(site.master(port))
        # Then
        await ready(node)
        assert node.links.leader == moved_url
        await consume(node, 900)

    at_a_site(tmp_path, check)


def test_a_second_master_that_knows_one_server_is_found_by_all(tmp_path: Path) -> None:
    """Every server is linked to both masters, and follows the second when the first is gone."""

    async def check(site: Site) -> None:
        async with AsyncExitStack() as first_stack:
            first, first_url = await first_stack.enter_async_context(site.one_of_two_masters(0))
            ballots = BallotFile.open(tmp_path / "ballot", lambda: witness_id("s1", "5" * 32))
            site.stack.callback(ballots.close)
            witness, url = await site.stack.enter_async_context(
                site.server("s1", masters=[first_url], ballots=ballots)
            )
            other, _ = await site.stack.enter_async_context(site.server("s2", join=[url]))
            await define(first, 1000)
            await ready(other)
            before = await consume(other, 5)
            # When
            second, second_url = await site.stack.enter_async_context(
                site.one_of_two_masters(1, peers=[url])
            )
            both = sorted([first_url, second_url])

            async def linked() -> bool:
                view = first.primacy()
                is_safe = (len(view.isr), len(view.voters)) == (2, 3)
                return is_safe and witness.links.masters == other.links.masters == both

            await eventually(linked)
            assert sorted(remembered(tmp_path / "s2")) == both
            assert "admitted" in witness.ready()[2][2]
        # Then
        for each in (witness, other):

            async def follows(node: ServerNode = each) -> bool:
                return node.links.leader == second_url

            await eventually(follows)
        assert (second.role, other.links.switches) == ("primary", 2)
        after = await consume(other, 900)
        assert before.id != after.id
        assert (second.state.epoch, other.links.epoch) == (second.core.epoch, second.core.epoch)

    at_a_site(tmp_path, check)


def test_a_server_that_went_is_shown_as_away(tmp_path: Path) -> None:
    """At once, at all others; and as connected when it is back."""

    async def check(site: Site) -> None:
        _, master_url = await site.stack.enter_async_context(site.master())
        _, url = await site.stack.enter_async_context(site.server("s1", masters=[master_url]))

        async def presence(wanted: str) -> bool:
            known = (await site.nodes_at(url)).get("s2", {})
            return bool(known.get("presence") == wanted)

        for _ in range(2):
            async with site.server("s2", masters=[master_url]):
                await eventually(lambda: presence("connected"))
            await eventually(lambda: presence("away"))

    at_a_site(tmp_path, check)


def test_only_nodes_are_told_where_the_masters_are(tmp_path: Path) -> None:
    """Masters and servers refuse a wrong secret and another cluster, and the message says so."""

    async def check(site: Site) -> None:
        _, master_url = await site.stack.enter_async_context(site.master())
        _, url = await site.stack.enter_async_context(site.server("s1", masters=[master_url]))
        for each in (master_url, url):
            assert await ask_masters(each, SECRET, site.http, cluster="") == [master_url]
            for wrong in ("f" * 64, site.keys["auditor"]):
                with pytest.raises(Unreachable, match="secret is refused"):
                    await ask_masters(each, wrong, site.http, cluster="")
            # Nor is a node of another cluster, and both say why
            for other, why in (("ab" * 16, "we are of two clusters"), ("no name", "names no")):
                with pytest.raises(Unreachable, match=why):
                    await ask_masters(each, SECRET, site.http, cluster=other)
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9"):
            await ask_masters("http://127.0.0.1:9", SECRET, site.http, cluster="")

    at_a_site(tmp_path, check)


def test_a_master_by_two_names_is_linked_once(tmp_path: Path) -> None:
    """`localhost` and 127.0.0.1 are one master, which closes the older of two links."""

    async def check(site: Site) -> None:
        master, master_url = await site.stack.enter_async_context(site.master())
        by_name = master_url.replace(HOST, "localhost")
        node, _ = await site.stack.enter_async_context(site.server("s1", masters=[by_name]))
        await ready(node)
        await define(master, 1000)
        await consume(node, 5)

        async def told() -> bool:
            return node.known_masters() == [master_url, by_name]

        await eventually(told)
        await consume(node, 500)
        assert (node.links.masters, node.links.switches) == ([by_name], 1)

    at_a_site(tmp_path, check)


def test_what_is_remembered_is_only_a_help(tmp_path: Path) -> None:
    """A file that is damaged says nothing, and a disk that is full takes nothing away."""
    assert remembered(tmp_path) == []
    remember(tmp_path, ["http://a:1", "http://b:2"])
    assert remembered(tmp_path) == ["http://a:1", "http://b:2"]
    (tmp_path / FILE).write_bytes(b'["http://a')
    assert remembered(tmp_path) == []
    remember(tmp_path / "not there", ["http://a:1"])


def test_metrics_tell_what_callers_make_grow(tmp_path: Path) -> None:
    """How many keys, holds and refunds there are and is room for, and whose they are."""

    async def check(site: Site) -> None:
        _, master_url = await site.stack.enter_async_context(site.master())
        node, url = await site.stack.enter_async_context(site.server("s1", masters=[master_url]))
        await ready(node)
        node.core.settlement.known["a"] = node.core.settlement.known_in_all = 3
        node.core.keys.ledger.add("b", record_of(bytes(DIGEST_BYTES), b"answer"), boot_ns())
        lines = (await site.http.get(f"{url}/metrics")).text.splitlines()
        assert {
            "vcap_keys_kept 1.0",
            "vcap_keys_max 5e+06",
            'vcap_keys_share{key="b"} 1.0',
            "vcap_keys_evicted_total 0.0",
            "vcap_keys_waiting 0.0",
            "vcap_marks_kept 3.0",
            "vcap_marks_max 1e+06",
            'vcap_marks_share{key="a"} 3.0',
            "vcap_marks_refused_total 0.0",
        } <= set(lines)

    at_a_site(tmp_path, check)


def test_metrics_tell_of_the_links(tmp_path: Path) -> None:
    """How many masters are linked, which epoch is led, and how often that changed."""

    async def check(site: Site) -> None:
        _, master_url = await site.stack.enter_async_context(site.master())
        node, url = await site.stack.enter_async_context(site.server("s1", masters=[master_url]))
        await ready(node)
        lines = (await site.http.get(f"{url}/metrics")).text.splitlines()
        assert {
            "vcap_masters_linked 1.0",
            "vcap_primary_linked 1.0",
            "vcap_primary_epoch 2.0",
            "vcap_primary_switches_total 1.0",
            "vcap_witness 0.0",
        } <= set(lines)

    at_a_site(tmp_path, check)
