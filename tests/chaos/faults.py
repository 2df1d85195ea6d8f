"""What is done to a running deployment, one function a fault: strike, wait, let it heal."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

from tests.chaos.cluster import Cluster
from tests.support.deployment import Deployment

DISK_FAILED = 70
"""The exit code of a master whose log failed."""

EXIT_SECONDS = 30.0
FILLER = "filler"
RESTART_SECONDS = (0.0, 0.3)
"""How long a supervisor takes to notice that a node is gone."""


class Network(Protocol):
    """Something that can lose what one node sends to another."""

    def cut(self, sender: str, receiver: str) -> None:
        """Lose everything, silently, until `heal`."""
        ...

    def heal(self) -> None:
        """Lose nothing any more."""
        ...


class Scene(NamedTuple):
    """Where it happens; `leader` is the slot of who leads, with the other in sync."""

    deployment: Deployment
    cluster: Cluster
    network: Network
    rng: random.Random
    leader: int

    @property
    def primary(self) -> str:
        return f"master{self.leader}"

    @property
    def secondary(self) -> str:
        return f"master{1 - self.leader}"

    @property
    def nodes(self) -> list[str]:
        return list(self.deployment.places)


class Struck(NamedTuple):
    """A fault that was: when it began, and when nothing was wrong any more, by the clock.

    `excused` are servers that could not serve, `flaws` what went otherwise than it must.
    """

    at: float
    healed_at: float
    excused: tuple[int, ...] = ()
    flaws: tuple[str, ...] = ()


# ---- processes


async def kill_primary(scene: Scene) -> Struck:
    """SIGKILL of who leads."""
    return await _killed(scene, [scene.primary])


async def kill_secondary(scene: Scene) -> Struck:
    """SIGKILL of who follows."""
    return await _killed(scene, [scene.secondary])


async def kill_witness(scene: Scene) -> Struck:
    """SIGKILL of a server that votes."""
    return await _killed(scene, ["server1"])


async def kill_server(scene: Scene) -> Struck:
    """SIGKILL of any server."""
    servers = [each for each in scene.nodes if each.startswith("server")]
    return await _killed(scene, [scene.rng.choice(servers)])


async def kill_both_masters(scene: Scene) -> Struck:
    """SIGKILL of who leads and, at any moment of the failover, of the other master."""
    at = time.monotonic()
    await asyncio.to_thread(scene.deployment.kill, scene.primary)
    await asyncio.sleep(scene.rng.choice((0.0, 0.01, 0.05, 0.3)))
    struck = await _killed(scene, [scene.secondary])
    await asyncio.to_thread(_start, scene, scene.primary)
    return struck._replace(at=at, healed_at=time.monotonic())


async def _killed(scene: Scene, nodes: list[str]) -> Struck:
    at = time.monotonic()
    for node in nodes:
        await asyncio.to_thread(scene.deployment.kill, node)
    await asyncio.sleep(scene.rng.uniform(*RESTART_SECONDS))
    for node in nodes:
        await asyncio.to_thread(_start, scene, node)
    healed_at = time.monotonic()
    excused = tuple(_number(each) - 1 for each in nodes if each.startswith("server"))
    if excused:
        await scene.cluster.servers_ready()
    return Struck(at, healed_at, excused)


def _start(scene: Scene, node: str) -> None:
    if node.startswith("master"):
        scene.deployment.start_master(_number(node), wait=False)
    else:
        scene.deployment.start_server(_number(node) - 1, wait=False)


def _number(node: str) -> int:
    return int(node[-1])


async def pause_primary(scene: Scene) -> Struck:
    """SIGSTOP of who leads, and SIGCONT one to ten seconds later."""
    process = scene.deployment.child(scene.primary).pid
    at = time.monotonic()
    os.kill(process, signal.SIGSTOP)
    try:
        await asyncio.sleep(scene.rng.choice((1.0, 2.0, 2.0, 3.0, 3.0, 5.0, 10.0)))
    finally:
        os.kill(process, signal.SIGCONT)
    return Struck(at, time.monotonic())


async def switch_over(scene: Scene) -> Struck:
    """An operator lets the other master lead."""
    at = time.monotonic()
    response = await scene.cluster.call("POST", "/v1/primacy/switchovers", scene.leader)
    flaws = () if response.is_success else (f"no switchover: {response.text}",)
    return Struck(at, time.monotonic(), flaws=flaws)


# ---- the network


async def cut_off(scene: Scene) -> Struck:
    """Who leads hears nobody, and nobody hears it."""
    others = [each for each in scene.nodes if each != scene.primary]
    out = [(scene.primary, each) for each in others]
    return await _cut(scene, [*out, *((receiver, sender) for sender, receiver in out)])


async def mute(scene: Scene) -> Struck:
    """Who leads hears everybody, and nobody hears it."""
    return await _cut(scene, [(scene.primary, each) for each in scene.nodes])


async def deafen(scene: Scene) -> Struck:
    """Everybody hears who leads, and it hears nobody."""
    return await _cut(scene, [(each, scene.primary) for each in scene.nodes])


async def part_masters(scene: Scene) -> Struck:
    """The masters do not hear each other; servers hear both."""
    pair = (scene.primary, scene.secondary)
    return await _cut(scene, [pair, pair[::-1]])


async def _cut(scene: Scene, links: Iterable[tuple[str, str]]) -> Struck:
    at = time.monotonic()
    for sender, receiver in links:
        if sender != receiver:
            scene.network.cut(sender, receiver)
    try:
        await asyncio.sleep(scene.rng.uniform(2.5, 6.0))
    finally:
        scene.network.heal()
    return Struck(at, time.monotonic())


# ---- the disk


async def fail_fsync(scene: Scene) -> Struck:
    """The disk of who leads fails to make something durable: it must end, and begin anew."""
    directory, child = _directory(scene), scene.deployment.child(scene.primary)
    before = len(list(directory.glob("aside-*")))
    which = scene.rng.randint(1, 20)
    command = ["strace", "-f", "-qq", "-o", str(directory / "strace"), "-p", str(child.pid)]
    command += ["-e", "trace=fdatasync,fsync"]
    command += ["-e", f"inject=fdatasync,fsync:error=EIO:when={which}"]
    at = time.monotonic()
    tracer = await asyncio.create_subprocess_exec(*command)
    code = await asyncio.to_thread(child.wait, EXIT_SECONDS)
    await tracer.wait()
    flaws = [] if code == DISK_FAILED else [f"{scene.primary} ended with {code}"]
    await asyncio.to_thread(_start, scene, scene.primary)
    healed_at = time.monotonic()
    await scene.cluster.in_sync()
    if len(list(directory.glob("aside-*"))) != before + 1:
        flaws.append(f"{scene.primary} did not begin as a new node")
    return Struck(at, healed_at, flaws=tuple(flaws))


async def fill_disk(scene: Scene) -> Struck:
    """There is no room any more where who leads has its log; later there is again."""
    filler = _directory(scene) / FILLER
    at = time.monotonic()
    try:
        await asyncio.to_thread(_fill, filler)
        while await scene.cluster.leader() == scene.leader:  # noqa: ASYNC110  # over HTTP
            await asyncio.sleep(0.05)
        await asyncio.sleep(scene.rng.uniform(0.5, 3.0))
    finally:
        filler.unlink()
    return Struck(at, time.monotonic())


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue


def _directory(scene: Scene) -> Path:
    return scene.deployment.log_of(scene.leader).parent


# ---- all of them


class Fault(NamedTuple):
    """A kind of fault, what the machine must have for it, and what must hold.

    `gap` are seconds between the last acknowledgement before and the first one behind it: the
    median, and the 99th of a hundred.
    """

    name: str
    strike: Callable[[Scene], Awaitable[Struck]]
    needs: str = ""
    gap: tuple[float, float] | None = None


_NEVER = float("inf")

FAULTS = {
    each.name: each
    for each in (
        Fault("kill primary", kill_primary, gap=(0.150, 0.500)),
        Fault("pause primary", pause_primary, gap=(_NEVER, 2.5)),
        Fault("cut primary off", cut_off, gap=(_NEVER, 2.5)),
        Fault("mute primary", mute, gap=(_NEVER, 2.5)),
        Fault("deafen primary", deafen, gap=(_NEVER, 2.5)),
        Fault("part masters", part_masters, gap=(_NEVER, 2.5)),
        Fault("fail fsync", fail_fsync, needs="tracing"),
        Fault("fill disk", fill_disk, needs="small disk"),
        Fault("switch over", switch_over, needs="switchover", gap=(_NEVER, 0.200)),
        Fault("kill secondary", kill_secondary),
        Fault("kill server", kill_server),
        Fault("kill witness", kill_witness),
        Fault("kill both masters", kill_both_masters),
    )
}
