"""Where nodes cannot have machines of their own: relays before the masters, which lose messages.

Whoever wants to reach a master dials its relay. That finds out which node has dialled, and while
something is cut it passes nothing on: no bytes, no new connection, and not the end of one either.
"""

import asyncio
import threading
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from pathlib import Path

from tests.support.deployment import Place, free_ports

CHUNK = 64 * 1024
ONE_WAY_SECONDS = 0.3
"""A connection needs both ways: what is not acknowledged is soon followed by nothing more."""


class Relays:
    """All nodes on this machine, the masters behind relays; `cut` and `heal` as of a network."""

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}
        self._cuts: dict[tuple[str, str], float] = {}
        self._loop = asyncio.new_event_loop()
        self._healed = asyncio.Event()
        self._pumps: set[asyncio.Task[None]] = set()
        threading.Thread(target=self._loop.run_forever, name="relays", daemon=True).start()

    def places(self, nodes: Sequence[str]) -> list[Place]:
        """A port for each node, which stays its own, and one for the relay of each master."""
        new = [each for each in nodes if each not in self._places]
        for node, port, relay in zip(new, *[iter(free_ports(2 * len(new)))] * 2, strict=True):
            place = Place("127.0.0.1", port)
            if node.startswith("master"):
                place = place._replace(reached=f"http://127.0.0.1:{relay}")
                asyncio.run_coroutine_threadsafe(self._listen(node, relay), self._loop).result()
            self._places[node] = place
        return [self._places[node] for node in nodes]

    def cut(self, sender: str, receiver: str) -> None:
        """Pass on nothing that `sender` sends to `receiver`, until `heal`."""
        self._cuts[sender, receiver] = time.monotonic()
        self._loop.call_soon_threadsafe(self._healed.clear)

    def heal(self) -> None:
        """Pass on everything, also what was held back."""
        self._cuts.clear()
        self._loop.call_soon_threadsafe(self._healed.set)

    # ---- in the thread of the loop

    async def _listen(self, receiver: str, port: int) -> None:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peer = writer.get_extra_info("peername")[1]
            sender = await asyncio.to_thread(node_that_dials, peer, port)
            with suppress(OSError):
                await self._passes(sender, receiver)
                await self._passes(receiver, sender)
                place = self._places[receiver]
                away = await asyncio.open_connection(place.host, place.port)
                self._start(self._pump(reader, away[1], sender, receiver))
                self._start(self._pump(away[0], writer, receiver, sender))
                return
            writer.close()

        await asyncio.start_server(accept, "127.0.0.1", port)

    def _start(self, pump: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(pump)
        self._pumps.add(task)
        task.add_done_callback(self._pumps.discard)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        sender: str,
        receiver: str,
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._passes(sender, receiver)
                writer.write(data)
                await writer.drain()
        await self._passes(sender, receiver)
        writer.close()

    async def _passes(self, sender: str, receiver: str) -> None:
        while self._is_cut(sender, receiver):
            await self._healed.wait()

    def _is_cut(self, sender: str, receiver: str) -> bool:
        back = self._cuts.get((receiver, sender), float("inf"))
        is_stuck = time.monotonic() - back > ONE_WAY_SECONDS
        return (sender, receiver) in self._cuts or is_stuck


def node_that_dials(port: int, relay: int) -> str:
    """The node at the other end of a connection from `port` to `relay`, "" where it is none."""
    ends = f":{port:04X} ", f":{relay:04X} "
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, *rest = line.split()
        if (f"{local} "[-6:], f"{remote} "[-6:]) == ends:
            return _node_with(f"socket:[{rest[6]}]")
    return ""


def _node_with(socket: str) -> str:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"--data" in words and any(
                str(each.readlink()) == socket for each in (process / "fd").iterdir()
            ):
                return Path(words[words.index(b"--data") + 1].decode()).name
    return ""
