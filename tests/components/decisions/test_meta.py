"""What follows from operators' commands: never twice, and versions only grow."""

from hypothesis import given
from hypothesis import strategies as st

from vcap_es.components.decisions.denied import Denied
from vcap_es.components.decisions.meta import (
    Define,
    DefineTemplate,
    MetaCommand,
    Pause,
    Resume,
    Retire,
    RetireTemplate,
    decide,
)
from vcap_es.events.facts import Definition, MetaDefined, Version
from vcap_es.projections.states.data_centre import Fold

CAPS = st.sampled_from(["a", "b"])
VERSIONS = st.none() | st.builds(Version, st.just(0), st.integers(0, 4))
DEFINITIONS = st.builds(
    Definition,
    total=st.integers(0, 3),
    start=st.none() | st.just(1_767_268_800_000_000),
    pacing=st.sampled_from(["asap", "even"]),
)
COMMANDS = st.one_of(
    st.builds(Define, cap=CAPS, definition=DEFINITIONS, if_version=VERSIONS),
    st.builds(Pause, cap=CAPS, if_version=VERSIONS),
    st.builds(Resume, cap=CAPS, if_version=VERSIONS),
    st.builds(Retire, cap=CAPS, if_version=VERSIONS),
    st.builds(DefineTemplate, match=st.sampled_from(["*", "a*"]), definition=DEFINITIONS),
    st.builds(RetireTemplate, match=st.sampled_from(["*", "a*"])),
)


def follow(fold: Fold, command: MetaCommand) -> int:
    """Let what follows become true; the number of facts, -1 for a denial."""
    decided = decide(fold.state, "dc1", command)
    if isinstance(decided, Denied):
        return -1
    for fact in decided:
        fold.evolve(fact)
    return len(decided)


@given(st.lists(COMMANDS, max_size=20))
def test_the_same_command_twice_gives_nothing_new(commands: list[MetaCommand]) -> None:
    """Whatever came before, a command that was followed is denied or does nothing when repeated."""
    fold = Fold()
    for command in commands:
        follow(fold, command)
        assert follow(fold, command) <= 0


@given(st.lists(COMMANDS, max_size=20))
def test_versions_only_grow(commands: list[MetaCommand]) -> None:
    """Each change of a cap has the next version; a denial changes nothing."""
    fold = Fold()
    for command in commands:
        before = {cap: meta.version for cap, meta in fold.state.metas.items()}
        facts = follow(fold, command)
        grown = sum(
            meta.version.number - before.get(cap, Version(0, 0)).number
            for cap, meta in fold.state.metas.items()
        )
        is_template = isinstance(command, DefineTemplate | RetireTemplate)
        assert grown == (0 if is_template else max(0, facts))


@given(st.lists(COMMANDS, max_size=20), CAPS, DEFINITIONS)
def test_a_condition_on_the_version_is_kept(
    commands: list[MetaCommand], cap: str, definition: Definition
) -> None:
    """A command with a version is followed only where that one is in force."""
    fold = Fold()
    for command in commands:
        follow(fold, command)
    meta = fold.state.metas.get(cap)
    current = meta.version if meta else Version(0, 0)
    for number in range(6):
        wanted = Version(0, number)
        command = Define(cap=cap, definition=definition, if_version=wanted)
        decided = decide(fold.state, "dc1", command)
        conflict = isinstance(decided, Denied) and decided.code == "version_conflict"
        assert conflict == (wanted != current)


def test_a_retired_cap_is_only_defined_again() -> None:
    """Paused or resumed it is denied, retired again it is so already; defined again it serves."""
    fold = Fold()
    follow(fold, Define(cap="a", definition=Definition(total=1)))
    follow(fold, Retire(cap="a"))
    for command in (Pause(cap="a"), Resume(cap="a")):
        denied = decide(fold.state, "dc1", command)
        assert isinstance(denied, Denied)
        assert denied.code == "retired"
    assert decide(fold.state, "dc1", Retire(cap="a")) == []
    decided = decide(fold.state, "dc1", Define(cap="a", definition=Definition(total=1)))
    assert decided == [MetaDefined(cap="a", version=Version(0, 3), definition=Definition(total=1))]


def test_what_is_not_there_is_denied() -> None:
    """Changes of unknown caps and templates say what is missing."""
    state = Fold().state
    for command in (Pause(cap="x"), Resume(cap="x"), Retire(cap="x")):
        denied = decide(state, "dc1", command)
        assert isinstance(denied, Denied)
        assert denied.code == "unknown_cap"
    denied = decide(state, "dc1", RetireTemplate(match="x*"))
    assert isinstance(denied, Denied)
    assert denied.code == "unknown_template"


def test_a_start_that_is_left_open_stays_as_it_was() -> None:
    """A change that names no start keeps the one that was decided."""
    fold = Fold()
    follow(fold, Define(cap="a", definition=Definition(total=1, start=5)))
    follow(fold, Define(cap="a", definition=Definition(total=2)))
    assert fold.state.metas["a"].definition == Definition(total=2, start=5)
