"""The README's walk-through works as it is written, word for word."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Timer

import pytest

from tests.support.deployment import ROOT

PORTS = (7100, 7101, 7102, 7103)
ELLIPSIS = "…"
DONE, ENDED = "=== done", "=== ended"
PATIENCE_SECONDS = 120.0


def blocks() -> list[list[tuple[str, list[str]]]]:
    """The console blocks: commands, each with the lines that it prints."""
    found = re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return [list(_steps(block.splitlines())) for block in found]


def _steps(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    starts = [index for index, line in enumerate(lines) if line.startswith("$ ")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        yield lines[start][2:], lines[start + 1 : end]


def python_example() -> str:
    """The Python block, with the key that it speaks of, and a word on its answer."""
    found = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found is not None
    key = 'key = open("vcap-data/client.key").read().strip()\n'
    return f"{key}{found[1]}print(type(answer).__name__)\n"


def fits(expected: list[str], printed: list[str]) -> bool:
    """Whether what was printed is what is written; an ellipsis stands for anything in a line."""
    patterns = [re.escape(line).replace(re.escape(ELLIPSIS), ".*") for line in expected]
    return len(patterns) == len(printed) and all(map(re.fullmatch, patterns, printed))


class Terminal:
    """One bash, one command after the other."""

    def __init__(self, directory: Path) -> None:
        self._bash = subprocess.Popen(
            ["bash"],
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._patience = Timer(PATIENCE_SECONDS, self._give_up)
        self._patience.start()

    def _give_up(self) -> None:
        os.killpg(self._bash.pid, signal.SIGKILL)

    def type(self, command: str) -> None:
        """Type a command, and do not wait."""
        assert self._bash.stdin is not None
        self._bash.stdin.write(command + "\n")
        self._bash.stdin.flush()

    def run(self, command: str) -> list[str]:
        """Type a command, and give the lines that it prints."""
        self.type(f"{command}\necho; echo '{DONE}'")
        printed = self.read_until(DONE)
        return printed[:-1] if printed and printed[-1] == "" else printed

    def read_until(self, last: str) -> list[str]:
        """The lines up to the one that begins with `last`."""
        lines: list[str] = []
        assert self._bash.stdout is not None
        for line in self._bash.stdout:
            if line.startswith(last):
                return lines
            assert not line.startswith(ENDED), f"it ended before {last!r}: {lines}"
            lines.append(line.rstrip("\n"))
        raise AssertionError(f"it ended before {last!r}: {lines}")

    def interrupt(self) -> None:
        """Ctrl-C for all that runs here, and wait until it has ended."""
        self._patience.cancel()
        os.killpg(self._bash.pid, signal.SIGINT)
        with suppress(BrokenPipeError):
            self._bash.communicate(timeout=60)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout as it comes from a clone, with the environment that `make setup` made."""
    if not (ROOT / ".venv" / ".ready").exists():
        pytest.skip("SKIPPED: there is no .venv: run the tests by `make test`")
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    for name in files:
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    return tmp_path


def test_the_walk_through_works_word_for_word(checkout: Path) -> None:
    """Start, define, consume, be refused, explain, verify: what is printed is what is written."""
    # Given
    (start, welcome), *others = [step for block in blocks() for step in block]
    assert start == "make up"
    first, second = Terminal(checkout), Terminal(checkout)
    try:
        # When
        first.type(f"{start}; echo '{ENDED}'")
        printed = first.read_until(welcome[-1])
        assert fits(welcome[:-1], printed[-len(welcome) + 1 :]), printed
        # Then
        for command, expected in others:
            lines = second.run(command)
            assert fits(expected, lines), f"$ {command}\n" + "\n".join(lines)
        assert second.run(f"python - <<'END'\n{python_example()}END") == ["Consumed"]
    finally:
        second.interrupt()
        first.interrupt()
