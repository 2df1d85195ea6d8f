"""Log lines: one JSON object a line, whatever text is in it."""

import json
import subprocess
import sys

import pytest

from tests.support.deployment import ROOT

NASTY = {
    "new lines": "a\r\nb\nc\u2028d\u2029e\x85f",
    "escapes": "\x1b[31mred\x1b]0;title\x07",
    "other controls": "\x00\x08\x7f\x9b",
    "right to left": "\u202egnp.exe\u2066",
    "a template": "${jndi:ldap://x} {} %s %(x)s",
    "quotes": '"} {"level": "critical"',
    "no character": "\ud800",
}


def logged(code: str) -> list[str]:
    """The lines that a process logs which runs `code`."""
    begin = (
        "import structlog\nfrom vcap_es import telemetry\n"
        "telemetry.configure('info', node='n1', component='c1')\n"
        "log = structlog.get_logger()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", begin + code], cwd=ROOT, check=True, capture_output=True
    )
    assert ended.stdout == b""
    return ended.stderr.decode().split("\n")[:-1]


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_what_users_write_stays_in_its_field(text: str) -> None:
    """One line of printable ASCII, which parses to what was logged."""
    [line] = logged(f"log.info('seen', text={text!r})")
    assert line.isascii()
    assert line.isprintable()
    found = json.loads(line)
    assert found["text"] == text
    assert (found["event"], found["level"], found["node"]) == ("seen", "info", "n1")
    assert found["at"].endswith("Z")


def test_an_exception_is_one_line_too() -> None:
    """With its traceback inside a field."""
    [line] = logged("try:\n 1/0\nexcept ZeroDivisionError:\n log.exception('failed')")
    assert "ZeroDivisionError" in json.loads(line)["exception"]


def test_what_json_does_not_know_is_written_as_text() -> None:
    """A path, bytes, an error: never a log line that is lost."""
    [line] = logged(
        "from pathlib import Path\n"
        "log.warning('odd', path=Path('x'), error=ValueError('why'), number=2**80)"
    )
    found = json.loads(line)
    assert (found["path"], found["error"]) == ("x", "why")


def test_lower_levels_are_left_out() -> None:
    """`info` was asked for."""
    assert logged("log.debug('quiet')") == []
