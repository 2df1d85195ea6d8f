"""Starts a secondary master: a child process in a session of its own, which outlives this one.

Whether and when one is started is decided elsewhere; where a master runs in the slot already, its
lock ends the second process at once.
"""

import asyncio
import string
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from vcap_es.errors import SettingsError
from vcap_es.settings import PREFIX

OUTPUT = "spawned.log"
"""What a child tells, appended to this file in the directory of its slot."""

REAP_SECONDS = 0.2
PLACEHOLDERS = frozenset({"slot", "spawn", "data", "join", "secret_file"})
OWN = ("SLOT", "NAME", "DIRECTORY", "HOST", "PORT", "ADDRESS", "PEERS")
"""Settings in our environment that say who we are: another master has its own."""

log = structlog.get_logger()


class Supervisor:
    """Starts masters by a command, and buries those that end."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        data: Path,
        join: str,
        secret_file: str,
        environment: Mapping[str, str],
    ) -> None:
        """Run the words of `command`; `{data}` in them is `master` and the slot, below `data`.

        `{join}` is the address of this master, `{spawn}` names the attempt, and `{slot}` and
        `{secret_file}` say what they are. Raises `SettingsError` for any other placeholder.
        """
        check(command)
        self._command, self._data = list(command), data
        self._fixed = {"join": join, "secret_file": secret_file}
        own = {f"{PREFIX}MASTER__{name}" for name in OWN}
        self._environment = {name: text for name, text in environment.items() if name not in own}
        self._tasks: set[asyncio.Task[None]] = set()
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, slot: int, spawn: str) -> None:
        """Start a master in `slot`; what becomes of it is logged. `spawn` names the attempt."""
        task = asyncio.create_task(self._run(slot, spawn), name=f"secondary {spawn}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> "list[subprocess.Popen[bytes]]":
        """Look after the children no more; those that live go on, and are given back."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return list(self._children.values())

    async def _run(self, slot: int, spawn: str) -> None:
        try:
            child = await asyncio.to_thread(self._spawned, slot, spawn)
        except OSError as error:
            log.error("a secondary cannot be started", slot=slot, spawn=spawn, error=str(error))
            return
        self._children[spawn] = child
        log.info("started a secondary", slot=slot, spawn=spawn, process=child.pid)
        while (code := child.poll()) is None:  # noqa: ASYNC110  # an event loop that waits for a child takes it along when it ends
            await asyncio.sleep(REAP_SECONDS)
        del self._children[spawn]
        tell = log.info if code == 0 else log.warning
        tell("a secondary ended", slot=slot, spawn=spawn, exit_code=code)

    def _spawned(self, slot: int, spawn: str) -> "subprocess.Popen[bytes]":
        directory = self._data / f"master{slot}"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        places = {**self._fixed, "slot": slot, "spawn": spawn, "data": directory}
        with (directory / OUTPUT).open("ab") as output:
            return subprocess.Popen(  # noqa: S603  # the words are the operator's own setting
                [word.format_map(places) for word in self._command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=self._environment,
            )


def check(command: Sequence[str]) -> None:
    """Raise `SettingsError` unless every placeholder of `command` is one that there is."""
    for word in command:
        try:
            names = {name for _, name, _, _ in string.Formatter().parse(word) if name is not None}
        except ValueError as error:
            raise SettingsError(f"master.secondary_command: {word!r}: {error}") from error
        if unknown := names - PLACEHOLDERS:
            known = " ".join(f"{{{name}}}" for name in sorted(PLACEHOLDERS))
            raise SettingsError(
                f"master.secondary_command: {word!r} has {{{min(unknown)}}}, and there are {known}"
            )
