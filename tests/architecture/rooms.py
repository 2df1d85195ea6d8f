"""The house as rooms: folders that are one idea each, and which of them import which.

`python -m tests.architecture.rooms` draws it, as the page of the architecture has it.
"""

from collections.abc import Callable, Iterable, Iterator

from tests.architecture.sources import PACKAGE, Import, Module, imports, package_modules, within

FLAT = ("vcap_es", "vcap_es.components", "vcap_es.adapters")
"""Folders whose files are rooms of their own: a page is a file, a machine is a folder."""

SHARED = (
    "vcap_es.errors",
    "vcap_es.shown",
    "vcap_es.version",
    "vcap_es.clock",
    "vcap_es.events.units",
)
"""What is no room, since everything stands on it."""

WHOLE = ("vcap_es.events", "vcap_es.projections", "vcap_es.sim", "vcap_es.cli", "vcap_es.client")
"""Folders that the picture shows as one room."""

Room = Callable[[Module], str]

ENTRANCE = "vcap_es.app"
"""The room of the files that compose all others."""


def folder_of(module: Module) -> str:
    """The folder that a module lies in, by its dotted name; a file of a flat one is itself."""
    if module.package in FLAT or module.name in FLAT:
        return module.name
    return module.package


def mutual(modules: Iterable[Module]) -> Iterator[str]:
    """A finding for each pair of folders that import each other."""
    arrows = _arrows(list(modules), folder_of)
    for here, there in sorted(arrows):
        if here < there and (there, here) in arrows:
            legs = (arrows[here, there], arrows[there, here])
            steps = "".join(
                f"\n    {leg.module.path}:{leg.line}: imports {leg.target}" for leg in legs
            )
            yield f"{here} and {there} import each other; let one know nothing of it:{steps}"


def _arrows(modules: list[Module], room: "Room") -> dict[tuple[str, str], Import]:
    known = {module.name: module for module in modules}
    arrows: dict[tuple[str, str], Import] = {}
    for module in modules:
        for found in imports(module, set(known)):
            if found.lasting and found.target in known:
                here, there = room(module), room(known[found.target])
                if here != there and PACKAGE not in (here, there):
                    arrows.setdefault((here, there), found)
    return arrows


# ---- the picture


def picture() -> str:
    """The rooms and what they stand on, in Mermaid; what follows from other arrows is left out."""
    modules = [each for each in package_modules() if not within(each.name, SHARED)]
    arrows = {(here, there) for here, there in _arrows(modules, _drawn) if there != ENTRANCE}
    lines = ["flowchart TD"]
    for folder in ("adapters", "components"):
        rooms = sorted({room for arrow in arrows for room in arrow if room.split(".")[1] == folder})
        lines += [f"  subgraph {folder}", *(f"    {_box(room)}" for room in rooms), "  end"]
    lines += [f"  {_short(here)} --> {_short(there)}" for here, there in sorted(_reduced(arrows))]
    return "\n".join(lines)


def _drawn(module: Module) -> str:
    parts = module.name.split(".")
    if within(module.name, WHOLE):
        return ".".join(parts[:2])
    if len(parts) <= 2:
        return ENTRANCE
    if parts[1:3] == ["adapters", "http"] and module.package != "vcap_es.adapters.http":
        return ".".join(parts[:4])
    return ".".join(parts[:3]) if parts[1] in ("adapters", "components") else ".".join(parts[:2])


def _short(room: str) -> str:
    return "_".join(room.split(".")[1:])


def _box(room: str) -> str:
    return f'{_short(room)}["{"/".join(room.split(".")[2:])}"]'


def _reduced(arrows: set[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The arrows that do not follow from others: the transitive reduction of an acyclic graph."""
    below: dict[str, set[str]] = {}
    for here, there in arrows:
        below.setdefault(here, set()).add(there)

    def reached(room: str, besides: str) -> set[str]:
        seen: set[str] = set()
        left = [each for each in below.get(room, ()) if each != besides]
        while left:
            found = left.pop()
            if found not in seen:
                seen.add(found)
                left += below.get(found, ())
        return seen

    return ((here, there) for here, there in arrows if there not in reached(here, there))


if __name__ == "__main__":
    print(picture())
