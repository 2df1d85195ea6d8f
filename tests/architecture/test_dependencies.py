"""What the package imports is declared, and what is declared is locked by hash."""

import re
import tomllib
from collections.abc import Iterator

from tests.architecture.sources import ROOT, Module, foreign_roots, package_modules, parse, report

LOCKS = ("requirements.lock", "requirements-dev.lock")


def declared() -> set[str]:
    """The names of the run-time dependencies in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {re.split(r"[^A-Za-z0-9._-]", line)[0] for line in project["dependencies"]}


def undeclared(module: Module, names: set[str]) -> Iterator[str]:
    """A finding for each import of a library that is not among `names`."""
    for line, root in foreign_roots(module):
        if root.replace("_", "-") not in names:
            yield (
                f"{module.path}:{line}: {root} is not a dependency of the package; add it to "
                "pyproject.toml and run `make lock`, or do without"
            )


def unlocked(name: str, text: str) -> Iterator[str]:
    """A finding for each requirement of a lock without a hash, and each address in it."""
    for number, line in enumerate(text.splitlines(), start=1):
        pinned = re.match(r"[A-Za-z0-9._-]+==\S+", line)
        if not line.startswith((" ", "#")) and not (pinned and line.endswith("\\")):
            yield f"{name}:{number}: not pinned with a hash: {line}; run `make lock`"
        if "://" in line or line.startswith("-"):
            yield f"{name}:{number}: a lock names no index: {line}; run `make lock`"


def test_imports_are_declared() -> None:
    """The package imports nothing but the standard library and its declared dependencies."""
    names = declared()
    findings = [f for module in package_modules() for f in undeclared(module, names)]
    assert not findings, report(findings)


def test_locks_are_complete() -> None:
    """Each lock pins every declared dependency by version and hash, and names no index."""
    for name in LOCKS:
        text = (ROOT / name).read_text(encoding="utf-8")
        findings = list(unlocked(name, text))
        assert not findings, report(findings)
        assert declared() <= set(re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE)), name


def test_an_undeclared_import_is_found() -> None:
    """An import of a library that nobody declared is reported with its file and line."""
    (finding,) = undeclared(parse("vcap_es.app", "import json\nimport leftpad.core"), {"msgspec"})
    assert finding.startswith("vcap_es/app.py:2: leftpad ")


def test_a_loose_lock_is_found() -> None:
    """A requirement without hash, a range and an index address are reported each."""
    for bad in ("msgspec==0.22.0", "msgspec>=0.22 \\", "--index-url https://example.org/simple"):
        assert list(unlocked("requirements.lock", bad)), bad
