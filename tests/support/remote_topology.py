"""A TCP wire that can be slow, cut and mended; what is cut is not told to either end."""

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress

CHUNK = 64 * 1024


class Wire:
    """Leads to a port on this machine, from a port of its own. It runs in a thread."""

    def __init__(self, target: int, *, delay_s: float = 0.0) -> None:
        """Every byte takes `delay_s` in each direction."""
        self.delay_s = delay_s
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._whole = asyncio.Event()
        self._whole.set()
        self._server: asyncio.Server = self._loop.run_until_complete(
            asyncio.start_server(self._carry, "127.0.0.1", 0)
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Nothing comes through any more, and nobody is told so."""
        self._loop.call_soon_threadsafe(self._whole.clear)

    def heal(self) -> None:
        """What was held up comes through."""
        self._loop.call_soon_threadsafe(self._whole.set)

    def close(self) -> None:
        """End every connection."""
        self._loop.call_soon_threadsafe(self._end)
        self._thread.join()
        self._loop.close()

    def _end(self) -> None:
        self._server.close()
        for each in self._tasks:
            each.cancel()
        self._loop.create_task(self._stop())

    async def _stop(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._loop.stop()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        finally:
            self._tasks.discard(task)
        for source, target in ((reader, back), (there, writer)):
            self._start(self._pump(source, target))

    def _start(self, pump: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(pump)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        """Bytes leave `delay_s` after they came, however many are on their way."""
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(1_000)
        arriving = self._loop.create_task(self._arrive(on_the_way, target))
        try:
            while data := await source.read(CHUNK):
                await on_the_way.put((self._loop.time() + self.delay_s, data))
            await on_the_way.put((self._loop.time() + self.delay_s, b""))
            await arriving
        except OSError:
            pass
        finally:
            arriving.cancel()
            target.close()

    async def _arrive(
        self, on_the_way: "asyncio.Queue[tuple[float, bytes]]", target: asyncio.StreamWriter
    ) -> None:
        while True:
            due, data = await on_the_way.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            await self._whole.wait()
            if not data or target.is_closing():
                return
            target.write(data)
            with suppress(OSError):
                await target.drain()
