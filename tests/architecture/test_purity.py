"""The core is sans-I/O: no clock, no randomness, no files, no waiting, and exact amounts."""

import ast
import re
from collections.abc import Iterable, Iterator

from tests.architecture.sources import Module, imports, package_modules, parse, report, within
from tests.architecture.test_arrows import ORDER, row_of

# What waits, reads a clock, rolls dice or touches the machine, and what does so for others.
FORBIDDEN_IMPORTS = frozenset(
    {
        "aiokafka",
        "aiosqlite",
        "anyio",
        "asyncio",
        "concurrent",
        "httpx2",
        "io",
        "mmap",
        "multiprocessing",
        "os",
        "pathlib",
        "pika",
        "random",
        "secrets",
        "selectors",
        "shutil",
        "signal",
        "socket",
        "sqlite3",
        "ssl",
        "starlette",
        "subprocess",
        "tempfile",
        "threading",
        "time",
        "uuid",
        "uvicorn",
        "uvloop",
        "websockets",
    }
)
# `hash` of a string differs from process to process.
FORBIDDEN_CALLS = frozenset({"breakpoint", "hash", "input", "open", "print"})
CLOCK_CALLS = re.compile(r"\b(datetime|date)\.(now|utcnow|today)$")

# Place -> what it may use all the same, and why.
ALLOWED: dict[str, tuple[frozenset[str], str]] = {
    "vcap_es.events.log": (frozenset({"async"}), "the port: a log is waited for"),
    "vcap_es.events.logs": (
        frozenset(
            {"aiokafka", "aiosqlite", "async", "asyncio", "concurrent", "os", "pathlib", "sqlite3"}
        ),
        "keeps the log: on a disk, in a broker, behind one writer task",
    ),
    "vcap_es.events.subscription": (frozenset({"async", "asyncio"}), "waits for the next event"),
    "vcap_es.events.codec": (frozenset({"io"}), "Avro reads and writes buffers in memory"),
    "vcap_es.events.schemas": (frozenset({"pathlib"}), "reads the schema files of the package"),
    "vcap_es.projections.replay": (
        frozenset({"async", "asyncio"}),
        "drives a projection from a subscription",
    ),
}

# Amounts live here: no float and no true division for any reason.
EXACT = ("vcap_es.events.facts", "vcap_es.events.amounts", "vcap_es.projections.states")
# Rates are used here beside amounts: each float says why it is no amount.
EXACT_UNLESS_RATIO = ("vcap_es.components.decisions",)
RATIO = re.compile(r"# ratio: \S+")


def core(modules: Iterable[Module]) -> list[Module]:
    """The modules below the adapters and their ground (clock, telemetry, settings)."""
    rows = range(ORDER.index(("vcap_es.components",)) + 1)
    return [module for module in modules if row_of(module.name) in rows]


def allowed(name: str, what: str) -> bool:
    """Whether the module `name` is excepted from the rule against `what`."""
    return any(within(name, [place]) and what in names for place, (names, _) in ALLOWED.items())


def effects(module: Module) -> Iterator[str]:
    """A finding for each way in which `module` reaches outside of its arguments."""
    for found in imports(module, set()):
        root = found.target.partition(".")[0]
        if root in FORBIDDEN_IMPORTS and not allowed(module.name, root):
            yield _finding(module, found.line, f"imports {root}", "take what it gives as argument")
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in FORBIDDEN_CALLS and not allowed(module.name, called):
                yield _finding(module, node.lineno, f"calls {called}()", "leave it to an adapter")
            if CLOCK_CALLS.search(called):
                yield _finding(module, node.lineno, f"reads the clock, {called}()", "take `now`")
        if isinstance(node, ast.AsyncFunctionDef) and not allowed(module.name, "async"):
            yield _finding(
                module, node.lineno, f"`async def {node.name}` waits", "return an output instead"
            )


def inexact(module: Module) -> Iterator[str]:
    """A finding for each true division, and for each float where amounts live."""
    for node in ast.walk(module.tree):
        what = _division(node)
        if what is None and within(module.name, EXACT + EXACT_UNLESS_RATIO):
            what = _float(node)
        if what is None:
            continue
        line: int = node.lineno  # type: ignore[attr-defined]  # expressions and statements have one
        if within(module.name, EXACT):
            yield _finding(module, line, what, "amounts are integers: use // or divmod")
        elif not _has_reason(module, node):
            yield _finding(
                module, line, what, "use // for amounts, or add `# ratio: why this is no amount`"
            )


def _division(node: ast.AST) -> str | None:
    if not isinstance(node, ast.BinOp | ast.AugAssign) or not isinstance(node.op, ast.Div):
        return None
    sides = (node.left, node.right) if isinstance(node, ast.BinOp) else (node.value,)
    # `folder / "name"` and `folder / f"{name}.avsc"` join paths.
    return None if any(_is_text(side) for side in sides) else "true division"


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _float(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
        return f"the float {node.value}"
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "float":
        return "a call of float()"
    hint = getattr(node, "annotation", None) or getattr(node, "returns", None)
    if isinstance(hint, ast.expr) and re.search(r"\bfloat\b", ast.unparse(hint)):
        return "a value typed float"
    return None


def _has_reason(module: Module, node: ast.AST) -> bool:
    first: int = node.lineno  # type: ignore[attr-defined]  # expressions and statements have one
    last: int = getattr(node, "end_lineno", None) or first
    return any(RATIO.search(line) for line in module.lines[first - 1 : last])


def _finding(module: Module, line: int, what: str, mend: str) -> str:
    return f"{module.path}:{line}: {what} below the adapters; {mend}"


def test_the_core_has_no_effects() -> None:
    """Nothing below the adapters reads a clock, rolls dice, waits or touches the machine."""
    findings = [finding for module in core(package_modules()) for finding in effects(module)]
    assert not findings, report(findings)


def test_amounts_are_exact() -> None:
    """There is no float where amounts live, and no true division without a reason in the core."""
    findings = [finding for module in core(package_modules()) for finding in inexact(module)]
    assert not findings, report(findings)


def test_the_core_reaches_from_errors_to_components() -> None:
    """The rules hold for facts, states and components, and not for the adapters."""
    names = {module.name for module in core(package_modules())}
    assert {"vcap_es.errors", "vcap_es.events.facts.meta", "vcap_es.components"} <= names
    assert not [name for name in names if within(name, ["vcap_es.adapters", "vcap_es.clock"])]


def test_an_effect_is_found() -> None:
    """Each kind of effect in a component is reported with its file and line."""
    for bad in (
        "import time",
        "import os.path",
        "from random import Random",
        "def late():\n    import asyncio",
        "text = open('file')",
        "slot = hash(cap) % 16",
        "now = datetime.datetime.now(UTC)",
        "day = date.today()",
        "async def step():\n    pass",
    ):
        (finding,) = effects(parse("vcap_es.components.local_handler.allocator", "\n" + bad))
        assert re.match(r"vcap_es/components/local_handler/allocator\.py:[23]: ", finding), finding


def test_an_exception_holds_only_for_its_place() -> None:
    """What the stored log may use is forbidden beside it, and it may not use more than listed."""
    assert not list(effects(parse("vcap_es.events.logs.sqlite", "import sqlite3")))
    assert list(effects(parse("vcap_es.events.logbook", "import sqlite3")))
    assert list(effects(parse("vcap_es.events.logs.sqlite", "import random")))


def test_a_float_among_amounts_is_found() -> None:
    """Facts, amounts and states hold no float and no true division, not even with a reason."""
    for bad in ("x = 0.5", "x = a / b  # ratio: no", "x /= 2", "x = float(a)", "x: float | None"):
        (finding,) = inexact(parse("vcap_es.projections.states.places", "\n" + bad))
        assert finding.startswith("vcap_es/projections/states/places.py:2: ")


def test_a_ratio_needs_a_reason() -> None:
    """Elsewhere in the core a true division passes with a reason beside it, and only then."""
    for name in ("vcap_es.components.decisions.volumecap", "vcap_es.projections.balances"):
        assert list(inexact(parse(name, "x = a / b")))
        assert list(inexact(parse(name, "x = a / b  # ratio:")))
        assert not list(inexact(parse(name, "x = a / b  # ratio: a share to show, not an amount")))
    assert list(inexact(parse("vcap_es.components.decisions.volumecap", "x = 0.5")))
    assert not list(inexact(parse("vcap_es.events.codec", "path = folder / 'meta'")))
