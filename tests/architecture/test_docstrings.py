"""Public things say what they promise, and tests say what must hold."""

import ast
from collections.abc import Iterator

from tests.architecture.sources import Module, modules_of_tests, package_modules, parse, report

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def undocumented(module: Module) -> Iterator[str]:
    """A finding for each public module, class, function and method without a docstring."""
    if any(_is_private(part) for part in module.name.split(".")):
        return
    if ast.get_docstring(module.tree) is None:
        yield _finding(module, 1, "the module", "what it holds")
    for name, node in _public(module.tree):
        if ast.get_docstring(node) is None:
            yield _finding(module, node.lineno, name, "what it promises")


def unsaid(module: Module) -> Iterator[str]:
    """A finding for each test function without a docstring."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (
            node.name.startswith("test_") and ast.get_docstring(node) is None
        ):
            yield _finding(module, node.lineno, node.name, "what must hold")


def _public(tree: ast.Module | ast.ClassDef, above: str = "") -> Iterator[tuple[str, Definition]]:
    """The public definitions of a module or class; what is inside a function is its own affair."""
    for node in tree.body:
        if not isinstance(node, Definition) or _is_private(node.name) or _says_it_elsewhere(node):
            continue
        name = above + node.name
        yield name, node
        if isinstance(node, ast.ClassDef):
            yield from _public(node, f"{name}.")


def _is_private(name: str) -> bool:
    return name.startswith("_") and name != "__main__"


def _says_it_elsewhere(node: Definition) -> bool:
    """Setters and overloads are told by the function of the same name, overrides by their base."""
    decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
    return bool(decorators & {"setter", "deleter", "overload", "override"})


def _finding(module: Module, line: int, name: str, what: str) -> str:
    return f"{module.path}:{line}: {name} has no docstring; say in a sentence {what}"


def test_public_things_have_docstrings() -> None:
    """Every public module, class, function and method of the package has a docstring."""
    findings = [finding for module in package_modules() for finding in undocumented(module)]
    assert not findings, report(findings)


def test_tests_have_docstrings() -> None:
    """Every test function says in a docstring what must hold."""
    findings = [finding for module in modules_of_tests() for finding in unsaid(module)]
    assert not findings, report(findings)


def test_a_missing_docstring_is_found() -> None:
    """A bare module, class, function and method are reported each; private ones are not."""
    bare = "class A:\n    def b(self): ...\n    def _c(self): ...\ndef d(): ...\ndef _e(): ..."
    findings = list(undocumented(parse("vcap_es.events.log", bare)))
    places = [finding.partition(" has")[0] for finding in findings]
    assert places == [
        "vcap_es/events/log.py:1: the module",
        "vcap_es/events/log.py:1: A",
        "vcap_es/events/log.py:2: A.b",
        "vcap_es/events/log.py:4: d",
    ]
    assert not list(undocumented(parse("vcap_es._inner", bare)))


def test_a_test_that_says_nothing_is_found() -> None:
    """A test function without a docstring is reported, also inside a class."""
    bad = "class TestCap:\n    def test_b(self): ...\n    def helper(self): ..."
    (finding,) = unsaid(parse("tests.test_cap", bad))
    assert finding.startswith("tests/test_cap.py:2: test_b ")
