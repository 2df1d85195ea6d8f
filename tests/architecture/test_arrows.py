"""Imports point backwards only, and never in a circle."""

from collections.abc import Iterable, Iterator

from tests.architecture.sources import (
    PACKAGE,
    Import,
    Module,
    imports,
    package_modules,
    parse,
    report,
    within,
)

# A module may import from its own row and from the rows above it. The longest name that fits
# places a module; the front door `vcap_es` stands for itself alone, not for what is below it.
ORDER: tuple[tuple[str, ...], ...] = (
    ("vcap_es.errors", "vcap_es.shown", "vcap_es.version"),
    ("vcap_es.events.facts",),
    ("vcap_es.events",),
    ("vcap_es.projections.states",),
    ("vcap_es.projections",),
    ("vcap_es.components.decisions", "vcap_es.components.messages"),
    ("vcap_es.components",),
    ("vcap_es.caps_file", "vcap_es.clock", "vcap_es.settings", "vcap_es.telemetry"),
    ("vcap_es.adapters",),
    ("vcap_es.client", "vcap_es.backtest", "vcap_es.sim"),
    (PACKAGE,),
    ("vcap_es.secret_files",),
    ("vcap_es.app",),
    ("vcap_es.children", "vcap_es.backup"),
    ("vcap_es.up", "vcap_es.restore"),
    ("vcap_es.cli",),
    ("vcap_es.__main__",),
)


def row_of(name: str) -> int | None:
    """The row of `ORDER` that the module `name` belongs to; None when it has no place."""
    fitting = [
        (len(place), row)
        for row, places in enumerate(ORDER)
        for place in places
        if name == place or (place != PACKAGE and within(name, [place]))
    ]
    return max(fitting)[1] if fitting else None


def inner_imports(modules: Iterable[Module]) -> list[Import]:
    """What the modules import from one another."""
    modules = list(modules)
    known = {module.name for module in modules}
    return [i for m in modules for i in imports(m, known) if within(i.target, [PACKAGE])]


def unplaced(modules: Iterable[Module]) -> Iterator[str]:
    """A finding for each module that has no row."""
    for module in modules:
        if row_of(module.name) is None:
            yield (
                f"{module.path}:1: {module.name} has no place in the order of imports; give it "
                "one in ORDER of tests/architecture/test_arrows.py, or move it into a folder"
            )


def forward_imports(modules: Iterable[Module]) -> Iterator[str]:
    """A finding for each import that points forwards."""
    for module, line, target, _ in inner_imports(modules):
        here, there = row_of(module.name), row_of(target)
        if here is not None and there is not None and there > here:
            yield (
                f"{module.path}:{line}: {module.name} imports {target}, which comes after it; "
                "take what it needs as an argument, or move the shared part back before both"
            )


def cycles(modules: Iterable[Module]) -> Iterator[str]:
    """A finding for each ring of modules that import one another at run time.

    An import inside a function counts: it only hides the ring. That importing `a.b` runs
    `a/__init__.py` first does not count: Python always starts that one before.
    """
    arrows: dict[str, dict[str, Import]] = {}
    for found in inner_imports(modules):
        if found.lasting:
            arrows.setdefault(found.module.name, {}).setdefault(found.target, found)
    for ring in _rings(arrows):
        legs = [arrows[a][b] for a in sorted(ring) for b in sorted(arrows[a]) if b in ring]
        steps = "".join(f"\n    {leg.module.path}:{leg.line}: imports {leg.target}" for leg in legs)
        yield (
            f"{legs[0].module.path}:{legs[0].line}: these modules import one another; "
            f"move what they share into a module of its own:{steps}"
        )


def _rings(arrows: dict[str, dict[str, Import]]) -> list[set[str]]:
    """The strongly connected components with an arrow inside, by Tarjan's algorithm."""
    seen: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    rings: list[set[str]] = []

    def visit(name: str) -> None:
        seen[name] = lowest[name] = len(seen)
        stack.append(name)
        for target in arrows.get(name, {}):
            if target not in seen:
                visit(target)
                lowest[name] = min(lowest[name], lowest[target])
            elif target in stack:
                lowest[name] = min(lowest[name], seen[target])
        if lowest[name] == seen[name]:
            at = stack.index(name)
            ring = set(stack[at:])
            del stack[at:]
            if len(ring) > 1 or name in arrows.get(name, {}):
                rings.append(ring)

    for name in sorted(arrows):
        if name not in seen:
            visit(name)
    return rings


def test_every_module_has_a_place() -> None:
    """Each module of the package has a row in the order of imports."""
    findings = list(unplaced(package_modules()))
    assert not findings, report(findings)


def test_imports_point_backwards() -> None:
    """No module imports one that comes after it."""
    findings = list(forward_imports(package_modules()))
    assert not findings, report(findings)


def test_no_import_cycles() -> None:
    """No modules import one another at run time."""
    findings = list(cycles(package_modules()))
    assert not findings, report(findings)


def test_the_checks_see_the_package() -> None:
    """The package's own imports are among those that are checked."""
    found = {(i.module.name, i.target) for i in inner_imports(package_modules())}
    assert ("vcap_es.events.envelope", "vcap_es.events.facts") in found


def test_an_unplaced_module_is_found() -> None:
    """A module that nobody placed is reported, and the front door places only itself."""
    assert next(unplaced([parse("vcap_es.helpers", "")])).startswith("vcap_es/helpers.py:1: ")


def test_a_forward_import_is_found() -> None:
    """A fact that imports a state is reported with its file and line, however it spells it."""
    state = parse("vcap_es.projections.states.places", "")
    for spelling in (
        "import vcap_es.projections.states.places",
        "from vcap_es.projections.states import places",
        "from ...projections.states.places import Pool",
        "from typing import TYPE_CHECKING; import typing\n"
        "if TYPE_CHECKING: from vcap_es.projections.states import places",
        "def late():\n    from vcap_es.projections.states.places import Pool",
    ):
        fact = parse("vcap_es.events.facts.meta", "\n" + spelling)
        line = 2 + spelling.count("\n")
        (finding,) = forward_imports([fact, state])
        assert finding.startswith(f"vcap_es/events/facts/meta.py:{line}: ")
        assert "imports vcap_es.projections.states.places" in finding
        assert not list(
            forward_imports([parse("vcap_es.components.local_handler.allocator", spelling), state])
        )


def test_a_cycle_is_found() -> None:
    """Three modules in a ring are reported once, also when an import hides in a function."""
    a = parse("vcap_es.events.a", "from vcap_es.events import b")
    b = parse("vcap_es.events.b", "import vcap_es.events.c")
    c = parse("vcap_es.events.c", "def late():\n    from vcap_es.events.a import x")
    (finding,) = cycles([a, b, c])
    for leg in ("a.py:1", "b.py:1", "c.py:2"):
        assert f"vcap_es/events/{leg}: imports" in finding


def test_a_type_only_import_makes_no_cycle() -> None:
    """An import for the type checker alone does not count as a run-time cycle."""
    a = parse("vcap_es.events.a", "from vcap_es.events import b")
    b = parse("vcap_es.events.b", "if TYPE_CHECKING:\n    from vcap_es.events import a")
    assert not list(cycles([a, b]))
