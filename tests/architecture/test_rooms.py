"""The house: which folders know which, one class for one name, and a map that is true."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from tests.architecture.rooms import mutual, picture
from tests.architecture.sources import ROOT, Module, package_modules, parse, report

SHAPES = "vcap_es.adapters.http.shapes."
"""The shapes of JSON have the names that the API's documents say, also where a state has them."""

APART = ("vcap_es.client.", "vcap_es.cli.")
"""What users import and type has a vocabulary of its own."""

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
PATH = re.compile(r"`((?:vcap_es|tests|schemas|compose|examples|benchmarks|docs)/[\w./-]+)`")
STOP = re.compile(r"`((?:adapters|components|projections|events)/[\w./]+\.py): (\w+)`")


def twins(modules: Iterable[Module]) -> Iterator[str]:
    """A finding for each class whose name another module has as well."""
    places = defaultdict(list)
    for module in modules:
        if not module.name.startswith((SHAPES, *APART)):
            classes = [each for each in module.tree.body if isinstance(each, ast.ClassDef)]
            for each in classes:
                places[each.name].append(f"{module.path}:{each.lineno}")
    for name, found in sorted(places.items()):
        if len(found) > 1:
            yield f"{' and '.join(found)}: both have a class {name}; name one of them otherwise"


def riddles(modules: Iterable[Module]) -> Iterator[str]:
    """A finding for each line that calls later positions `behind`: it reads as `before`."""
    for module in modules:
        for number, line in enumerate(module.lines, 1):
            if re.search(r"\bbehind (the )?(position|cursor|watermark)\b", line):
                yield f"{module.path}:{number}: positions are after or before one another"


def test_no_two_folders_import_each_other() -> None:
    """Of two folders one may know the other."""
    findings = list(mutual(package_modules()))
    assert not findings, report(findings)


def test_folders_that_import_each_other_are_found() -> None:
    """One import each way between two folders is reported with both places."""
    here = parse("vcap_es.adapters.links.link", "import vcap_es.adapters.master.log_writer")
    there = parse("vcap_es.adapters.master.log_writer", "import vcap_es.adapters.links.link")
    (finding,) = mutual([here, there])
    assert "links/link.py:1" in finding
    assert "master/log_writer.py:1" in finding


def test_no_class_name_stands_twice() -> None:
    """One name means one thing in the whole package."""
    findings = list(twins(package_modules()))
    assert not findings, report(findings)


def test_a_class_name_that_stands_twice_is_found() -> None:
    """Both places are named."""
    both = [parse(f"vcap_es.events.{name}", "class Window:\n    pass") for name in ("one", "two")]
    (finding,) = twins(both)
    assert "events/one.py:1 and vcap_es/events/two.py:1" in finding


def test_positions_are_after_or_before() -> None:
    """Nobody has to find out which way `behind` points."""
    findings = list(riddles(package_modules()))
    assert not findings, report(findings)
    bad = parse("vcap_es.events.bad", '"""Events behind the position `after`."""')
    assert list(riddles([bad]))


def test_every_path_in_the_docs_exists() -> None:
    """A page never names a file that was moved."""
    named = [(page, path) for page in PAGES for path in PATH.findall(page.read_text())]
    assert named
    missing = [f"{page.name}: {path}" for page, path in named if not (ROOT / path).exists()]
    assert not missing, report(missing)


def test_the_walks_lead_through_what_exists() -> None:
    """Each stop of a walk is a function of the file that it names."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    stops = STOP.findall(text)
    assert len(stops) > 30
    for path, function in stops:
        tree = ast.parse((ROOT / "vcap_es" / path).read_text())
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
        names = {each.name for each in ast.walk(tree) if isinstance(each, kinds)}
        assert function in names, f"docs/architecture.md: {path} has no function {function}"


def test_the_picture_is_drawn_from_the_imports() -> None:
    """What the page of the architecture shows is how the code is."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    drawn = page.partition("```mermaid\n")[2].partition("\n```")[0]
    assert drawn == picture(), "draw it anew: python -m tests.architecture.rooms"
