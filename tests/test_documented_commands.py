"""What the documents tell people to type is there: targets, modules, and words of `vcap`."""

import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from tests.support.deployment import ROOT
from vcap_es.cli import app

DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "examples/**/*.md", "compose/*.md")
    for path in ROOT.glob(pattern)
)
WHOLE = re.compile(r"^(?:    |\$ )((?:vcap|make|python -m) .*)$", re.MULTILINE)
"""A line that stands by itself, with all its arguments."""

MENTIONED = re.compile(r"`(make|python -m) ([\w.-]+)[^`]*`")
FILES = re.compile(r"\b(?:examples|compose)/[\w./-]+")


def whole_commands() -> Iterator[str]:
    """Every command that is written to be typed as it is, without its comment."""
    for path in DOCUMENTS:
        for found in WHOLE.findall(path.read_text()):
            yield found.split(" #")[0].strip()


def mentioned(kind: str) -> set[str]:
    """The targets or modules that are told of, anywhere."""
    inline = {
        name
        for path in DOCUMENTS
        for told, name in MENTIONED.findall(path.read_text())
        if told == kind
    }
    start = f"{kind} "
    return inline | {
        each.removeprefix(start).split()[0] for each in whole_commands() if each.startswith(start)
    }


@pytest.mark.parametrize("command", sorted(set(whole_commands())))
def test_a_command_is_one_that_is_known(command: str) -> None:
    """Each word and option of a `vcap` is one that it knows."""
    if command.startswith("vcap "):
        app.parse_args(shlex.split(command)[1:], exit_on_error=False, print_error=False)


def test_the_commands_were_found() -> None:
    """The patterns meet what they look for."""
    assert len(set(whole_commands())) > 15


def test_every_target_is_in_the_makefile() -> None:
    """A `make` that is told of is one that `make` alone lists."""
    listed = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"bench", "test"} <= mentioned("make") <= listed


def test_every_module_is_there() -> None:
    """A `python -m` that is told of can be found."""
    assert all(find_spec(each) is not None for each in mentioned("python -m"))


def test_every_file_that_is_told_of_is_there() -> None:
    """Examples and deployments are where the documents say."""
    told = {name.rstrip(".") for path in DOCUMENTS for name in FILES.findall(path.read_text())}
    assert told
    assert not [each for each in sorted(told) if not (ROOT / each).exists()]
