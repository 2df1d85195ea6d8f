"""The composition root: settings in, a running node out, everything in one TaskGroup."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from itertools import count
from pathlib import Path
from secrets import token_bytes, token_hex
from typing import NoReturn

import structlog
from msgspec import structs

from vcap_es import telemetry
from vcap_es.adapters.http.callers import RANDOM_BYTES, create_key, new_key
from vcap_es.adapters.http.client_plane.app import client_app
from vcap_es.adapters.http.client_plane.fast_lane import fast_lane
from vcap_es.adapters.http.client_plane.plane import ClientPlane
from vcap_es.adapters.http.control_plane.app import control_app
from vcap_es.adapters.http.server import serving
from vcap_es.adapters.master.master_node import MasterNode
from vcap_es.adapters.master.readiness import WAITS
from vcap_es.adapters.master.supervisor import Supervisor
from vcap_es.adapters.rabbitmq.connection import Broker
from vcap_es.adapters.rabbitmq.feed import FeedWire
from vcap_es.adapters.rabbitmq.topology import Peer, Topology
from vcap_es.adapters.storage.ballot_file import BallotFile
from vcap_es.adapters.storage.durable_files import sync_directory
from vcap_es.adapters.volumecap_server.server_node import ServerNode
from vcap_es.components.consensus.voter import founded
from vcap_es.components.decisions.primacy import master_id, witness_id
from vcap_es.components.primary_master.outputs import Spawn
from vcap_es.errors import (
    BallotLocked,
    CopyUnsound,
    LogLocked,
    OutcomeUnknown,
    ServerMoves,
    SettingsError,
)
from vcap_es.events.logs.sqlite import SqliteLog
from vcap_es.secret_files import ensure_node_secret, write_secret
from vcap_es.settings import (
    MasterSettings,
    ServerSettings,
    Settings,
    read_private,
    read_secret,
    read_secrets,
)

ADMIN_KEY_FILE = "admin.key"
LOG_FILE, SNAPSHOT_FILE, BALLOT_FILE = "log.sqlite", "snapshot", "ballot"
SUSPECT_FILE, JOURNAL_FILE = "suspect", "frames"

DISK_FAILED, TEMPORARY = 70, 75
"""Exit codes of a master: its log failed, and: another process serves its directory."""

SWITCH_SECONDS = 0.001
"""So long at most the writer of a log waits for the event loop to let it run, each time.

A transaction needs that a dozen times. With Python's 5 ms it takes up to 0.2 s at a primary that
has just been elected, and hears everything anew.
"""

log = structlog.get_logger()


def found_cluster(settings: Settings) -> str:
    """Let the master of these settings be the first of a new cluster; gives the cluster's name.

    Its directory must have nothing of another node in it; it leads as soon as it is run, and until
    then asking again changes nothing. The secret of the nodes is made, where there is none. Raises
    `SettingsError` where something is there, and `BallotLocked` while another process uses it.
    """
    own = settings.master
    directory = Path(own.directory)
    used = SettingsError(
        f"{directory} belongs to a node already: a cluster is founded in an empty directory; to "
        "run the master that is there, say `vcap run primary`"
    )
    if (directory / JOURNAL_FILE).exists() or _files_of_master(directory) - {BALLOT_FILE}:
        raise used
    ensure_node_secret(Path(settings.node_secret_file))
    ballots = _ballots_of(own)
    try:
        ballot = ballots.ballot
        if not ballot.cluster and ballot.config is None:
            ballot = founded(ballot, token_hex(16))
        if ballot != founded(ballot, ballot.cluster):
            raise used
        ballots.keep(ballot)
    finally:
        ballots.close()
    return ballot.cluster


def _files_of_master(directory: Path) -> set[str]:
    """The names of what a master has kept in its directory."""
    kept = (BALLOT_FILE, SNAPSHOT_FILE, SUSPECT_FILE)
    return {
        each.name
        for each in (directory.iterdir() if directory.exists() else ())
        if each.name in kept or each.name.startswith(LOG_FILE)
    }


def _ballots_of(own: MasterSettings) -> BallotFile:
    node = master_id(own.slot, token_hex(16))
    kind = master_id(own.slot, "")
    return _open_ballot(Path(own.directory), node, kind, f"the master of slot {own.slot}")


def _open_ballot(directory: Path, node: str, kind: str, who: str) -> BallotFile:
    """The ballot in `directory`, or a new one of `node`; ids of nodes of its `kind` begin so.

    Raises SettingsError where it is that of another kind of node: whoever votes by the promises of
    somebody else, or leads the epochs of another slot, could undo what was acknowledged.
    """
    ballots = BallotFile.open(directory / BALLOT_FILE, lambda: node)
    found = ballots.ballot.node
    if found.startswith(kind):
        return ballots
    ballots.close()
    raise SettingsError(
        f"{directory} is that of the node {found}, and this is {who}: give it its own directory, "
        "or start it as what it was"
    )


def run_master(settings: Settings) -> None:
    """Run a master until a signal or a failure ends it.

    It leads if it may; with an empty directory it waits to be admitted to a cluster. A copy that is
    not sound is set aside and made anew. Where it leads a cluster without API keys, it makes one
    for an admin, and writes it to `admin.key` beside its log.
    """
    own = settings.master
    directory, cluster = Path(own.directory), ""
    telemetry.configure(settings.log_level, node=own.name, component="master")
    sys.setswitchinterval(SWITCH_SECONDS)
    while True:
        try:
            _run(partial(_master, settings, cluster=cluster))
            return
        except CopyUnsound as error:
            aside, cluster = set_aside(directory), error.cluster
            log.warning("a copy was set aside", reason=str(error), directory=str(aside))
        except (LogLocked, BallotLocked) as error:
            _leave(TEMPORARY, error)
        except OutcomeUnknown as error:
            _mark_suspect(directory, str(error))
            _leave(DISK_FAILED, error)


def _leave(code: int, error: Exception) -> NoReturn:
    sys.stderr.write(f"vcap: {error}\n")
    sys.exit(code)


def set_aside(directory: Path) -> Path:
    """Move a master's log, ballot and snapshot into a folder of their own; nothing is deleted."""
    number = next(each for each in count(1) if not (directory / f"aside-{each}").exists())
    aside = directory / f"aside-{number}"
    aside.mkdir(mode=0o700)
    for name in sorted(_files_of_master(directory)):
        (directory / name).rename(aside / name)
    sync_directory(directory)
    return aside


def _mark_suspect(directory: Path, reason: str) -> None:
    """Let the next start know that this disk failed; the disk may not even take that."""
    with suppress(OSError):
        (directory / SUSPECT_FILE).write_text(reason, encoding="utf-8")


def _suspicion(directory: Path) -> str:
    try:
        return (directory / SUSPECT_FILE).read_text(encoding="utf-8") or "its disk failed"
    except FileNotFoundError:
        return ""


def run_server(settings: Settings) -> None:
    """Run a volumecap server until a signal or a failure ends it; an orderly end returns all.

    One that was readmitted to a restored cluster goes on as a server of that.
    """
    telemetry.configure(settings.log_level, node=settings.server.name, component="volumecap_server")
    while True:
        try:
            _run(lambda stop: _server(settings, stop))
            return
        except ServerMoves as readmitted:
            log.warning("moves to another cluster", reason=str(readmitted))
            # First the vote: whoever has promised nothing may forget nothing.
            _set_ballot_aside(Path(settings.server.directory))
            readmitted.move()


def _set_ballot_aside(directory: Path) -> None:
    """What a witness has promised is of its cluster; in another one it is another witness."""
    ballot = directory / BALLOT_FILE
    if ballot.exists():
        number = next(each for each in count(1) if not (directory / f"ballot-{each}").exists())
        ballot.rename(directory / f"ballot-{number}")
        sync_directory(directory)


async def _master(settings: Settings, stop: asyncio.Event, *, cluster: str) -> None:
    """Run one life of a master; a new copy belongs to `cluster`, as the one before it did."""
    own = settings.master
    directory = Path(own.directory)
    check_port(own.host, own.port)
    secret = read_secret(Path(settings.node_secret_file))
    address = own.address or _address("master", own.host, own.port)
    async with AsyncExitStack() as stack:
        events = await SqliteLog.open(directory / LOG_FILE, synchronous=own.synchronous)
        stack.push_async_callback(events.close)
        ballots = _ballots_of(own)
        stack.callback(ballots.close)
        if cluster and not ballots.ballot.cluster:
            ballots.keep(structs.replace(ballots.ballot, cluster=cluster))
        node = MasterNode(
            events,
            dc=settings.data_centre,
            name=own.name,
            secret=secret,
            snapshot=directory / SNAPSHOT_FILE,
            ballots=ballots,
            slot=own.slot,
            address=address,
            peers=own.peers,
            timings=own.timings,
            spawn=await _spawner(settings, address, stack),
            suspicion=_suspicion(directory),
            absolve=lambda: (directory / SUSPECT_FILE).unlink(missing_ok=True),
            wires=wires_of(settings),
            feed=feed_of(settings),
            clock_behind_max_s=own.clock_behind_max_s,
            reading=own.reading,
        )
        await stack.enter_async_context(node)
        if not node.cluster:
            log.info("waits to join", reason=WAITS, asked=own.peers, directory=str(directory))
        if node.role == "primary":
            await _first_admin(node, directory / ADMIN_KEY_FILE)
        port = await stack.enter_async_context(
            serving(control_app(node), host=own.host, port=own.port, websockets=True)
        )
        log.info("serving", url=f"http://{own.host}:{port}", data=str(directory))
        await _until(stop, node.failure)


def wires_of(settings: Settings) -> Topology | None:
    """How other data centres are reached; None where there are none."""
    remote = settings.remote
    if not remote.centres:
        return None
    if settings.data_centre in remote.centres:
        raise SettingsError(f"remote.centres.{settings.data_centre}: that is this data centre")
    broker = _broker(remote.broker, remote.password_file)
    return Topology(
        broker=broker,
        peers=tuple(
            Peer(
                name=name,
                broker=_broker(own.broker, own.password_file) if own.broker else broker,
                secrets=read_secrets(Path(own.secret_file)),
            )
            for name, own in sorted(remote.centres.items())
        ),
    )


def feed_of(settings: Settings) -> FeedWire | None:
    """Where facts are told as they are committed; None where nobody is to be told."""
    feed = settings.feed
    if not feed.broker:
        return None
    return FeedWire(broker=_broker(feed.broker, feed.password_file), exchange=feed.exchange)


def _broker(url: str, password_file: str) -> Broker:
    return Broker(url, read_private(Path(password_file))) if password_file else Broker(url)


async def _spawner(
    settings: Settings, address: str, stack: AsyncExitStack
) -> Callable[[Spawn], None] | None:
    """How this master starts a secondary; None where nothing says how."""
    own = settings.master
    if not own.secondary_command:
        return None
    supervisor = Supervisor(
        own.secondary_command,
        data=Path(own.directory).parent,
        join=address,
        secret_file=settings.node_secret_file,
        environment=os.environ,
    )
    stack.push_async_callback(supervisor.close)
    return lambda spawn: supervisor.start(spawn.slot, spawn.spawn)


async def _server(settings: Settings, stop: asyncio.Event) -> None:
    own = settings.server
    check_port(own.host, own.port)
    async with AsyncExitStack() as stack:
        node = ServerNode(
            Path(own.directory),
            name=own.name,
            masters=own.masters,
            join=own.join,
            secret=read_secret(Path(settings.node_secret_file)),
            address=own.address or _address("server", own.host, own.port),
            limits=own.limits,
            ballots=_witness(own, stack),
            timings=settings.master.timings,
        )
        # The node is entered first and left last: clients get no new answer once it drains.
        await stack.enter_async_context(node)
        plane = ClientPlane(node)
        port = await stack.enter_async_context(
            serving(client_app(plane), host=own.host, port=own.port, speaking=fast_lane(plane))
        )
        log.info("serving", url=f"http://{own.host}:{port}", incarnation=node.incarnation)
        await _until(stop, node.failure)


def _witness(own: ServerSettings, stack: AsyncExitStack) -> BallotFile | None:
    """The ballot of a server that is a witness."""
    if not own.witness:
        return None
    node = witness_id(own.name, token_hex(16))
    ballots = _open_ballot(Path(own.directory), node, "w-", f"the witness {own.name}")
    stack.callback(ballots.close)
    return ballots


def check_port(host: str, port: int) -> None:
    """Nobody else listens there: raises SettingsError before anything is opened or recorded."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror
        raise SettingsError(
            f"cannot listen at {host}:{port}: {reason}: stop who does, or give another port"
        ) from error


def _address(table: str, host: str, port: int) -> str:
    """Where others reach a node that says nothing of it."""
    if host in ("0.0.0.0", "::", "") or port == 0:  # noqa: S104  # told apart, not bound
        raise SettingsError(
            f"{table}.address: say how others reach this node; {host}:{port} is no address"
        )
    return f"http://{host}:{port}"


async def _first_admin(node: MasterNode, path: Path) -> None:
    """Somebody must be able to make the other keys."""
    if node.state.access.keys:
        return
    random = token_bytes(RANDOM_BYTES)
    # Kept before it is good: a key of which only the log knew would lock everybody out.
    write_secret(path, new_key(random).text)
    await create_key(node, role="admin", scopes=["*"], random=random)
    log.info("made the first admin key", file=str(path))


async def _until(stop: asyncio.Event, failure: Callable[[], Awaitable[None]]) -> None:
    """Wait for a signal to stop, or for the node's failure, which is raised."""
    stopping = asyncio.ensure_future(stop.wait())
    failing = asyncio.ensure_future(failure())
    try:
        await asyncio.wait({stopping, failing}, return_when=asyncio.FIRST_COMPLETED)
        if failing.done():
            failing.result()
    finally:
        stopping.cancel()
        failing.cancel()
        await asyncio.gather(stopping, failing, return_exceptions=True)


def _run(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    async def body() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(each, stop.set)
        await main(stop)

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(body())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The faster loop, where uvloop is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
