"""The source of the package as syntax trees, for the tests that hold its architecture."""

import ast
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "vcap_es"


class Module(NamedTuple):
    """One source file; `path` is relative to the root of the project."""

    name: str
    path: str
    lines: list[str]
    tree: ast.Module

    @property
    def package(self) -> str:
        """The package that a relative import of this module starts from."""
        return self.name if self.path.endswith("__init__.py") else self.name.rpartition(".")[0]


class Import(NamedTuple):
    """`module` imports `target` at `line`; `lasting` unless it is for the type checker alone."""

    module: Module
    line: int
    target: str
    lasting: bool


def parse(name: str, text: str, path: str | None = None) -> Module:
    """The module `name` with source `text`; tests feed bad sources through this."""
    path = path or name.replace(".", "/") + ".py"
    return Module(name, path, text.splitlines(), ast.parse(text, path))


def _read(path: Path) -> Module:
    relative = path.relative_to(ROOT)
    parts = relative.with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return parse(name, path.read_text(encoding="utf-8"), relative.as_posix())


@cache
def package_modules() -> list[Module]:
    """Every module of the package, sorted by name."""
    return sorted((_read(path) for path in (ROOT / PACKAGE).rglob("*.py")), key=lambda m: m.name)


@cache
def modules_of_tests() -> list[Module]:
    """Every file below `tests/`."""
    return sorted((_read(path) for path in (ROOT / "tests").rglob("*.py")), key=lambda m: m.name)


def within(name: str, places: Iterable[str]) -> bool:
    """Whether the module `name` is one of `places` or lies below one."""
    return any(name == place or name.startswith(place + ".") for place in places)


def imports(module: Module, known: set[str]) -> Iterator[Import]:
    """What `module` imports, wherever in the file it does.

    `from a import b` means the module `a.b` where that is in `known`, else `a`.
    """
    for_types = {
        id(node)
        for block in ast.walk(module.tree)
        if isinstance(block, ast.If) and ast.unparse(block.test).endswith("TYPE_CHECKING")
        for statement in block.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for target in dict.fromkeys(_targets(module, node, known)):
                yield Import(module, node.lineno, target, id(node) not in for_types)


def _targets(module: Module, node: ast.Import | ast.ImportFrom, known: set[str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = node.module or ""
    if node.level:
        above = module.package.split(".")[: len(module.package.split(".")) - node.level + 1]
        base = ".".join([*above, *filter(None, [base])])
    for alias in node.names:
        inner = f"{base}.{alias.name}"
        yield inner if inner in known else base


def foreign_roots(module: Module) -> Iterator[tuple[int, str]]:
    """The line and top-level name of each import of `module` from outside the standard library."""
    for found in imports(module, set()):
        root = found.target.partition(".")[0]
        if root != PACKAGE and root not in sys.stdlib_module_names:
            yield found.line, root


def report(findings: Iterable[str]) -> str:
    """The findings for a failure message, one a line."""
    return "\n" + "\n".join(findings)
