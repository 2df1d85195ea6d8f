"""What follows from commands about API keys: never twice, and no key is overwritten."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcap_es.components.decisions.access import (
    KEYS_MAX,
    SCOPES_MAX,
    AccessCommand,
    CreateKey,
    RevokeKey,
    decide,
)
from vcap_es.components.decisions.denied import Denied
from vcap_es.events.facts import ApiKeyRevoked
from vcap_es.projections.states.data_centre import Fold

KEY_IDS = st.sampled_from(["k", "l"])
CREATE = st.builds(
    CreateKey,
    key=KEY_IDS,
    digest=st.sampled_from([b"1", b"2"]),
    role=st.sampled_from(["client", "admin"]),
    scopes=st.just(["*"]),
    expires_at=st.none() | st.just(7),
)
COMMANDS = CREATE | st.builds(RevokeKey, key=KEY_IDS)


@given(st.lists(COMMANDS, max_size=12))
def test_the_same_command_twice_gives_nothing_new(commands: list[AccessCommand]) -> None:
    """A repeated command is denied or does nothing, and a key in force never changes."""
    fold = Fold()
    for command in commands:
        before = dict(fold.state.access.keys)
        decided = decide(fold.state, command)
        if not isinstance(decided, Denied):
            for fact in decided:
                fold.evolve(fact)
        again = decide(fold.state, command)
        assert isinstance(again, Denied) or again == []
        for key in before.keys() & fold.state.access.keys.keys():
            assert before[key] == fold.state.access.keys[key]


def test_a_key_in_use_and_a_key_unknown_are_denied() -> None:
    """Another key under the same id, and the revocation of none, say what is wrong."""
    fold = Fold()
    first = CreateKey(key="k", digest=b"1", role="client", scopes=["*"])
    decided = decide(fold.state, first)
    assert not isinstance(decided, Denied)
    fold.evolve(decided[0])
    other = decide(fold.state, CreateKey(key="k", digest=b"2", role="client", scopes=["*"]))
    assert isinstance(other, Denied)
    assert other.code == "key_exists"
    unknown = decide(fold.state, RevokeKey(key="x"))
    assert isinstance(unknown, Denied)
    assert unknown.code == "unknown_key"


def admin(key: str, scopes: list[str] | None = None, expires_at: int | None = None) -> CreateKey:
    """The command that makes an admin's key."""
    return CreateKey(
        key=key, digest=b"1", role="admin", scopes=scopes or ["*"], expires_at=expires_at
    )


@pytest.mark.parametrize(
    ("other", "is_revoked"),
    [
        (admin("l"), True),
        (admin("l", scopes=["shop:*"]), False),
        (admin("l", expires_at=7), False),
        (CreateKey(key="l", digest=b"1", role="operator", scopes=["*"]), False),
        (None, False),
    ],
)
def test_the_last_admin_key_stays(other: CreateKey | None, is_revoked: bool) -> None:
    """It is revoked only where another one opens everything, and for ever."""
    fold = Fold()
    for command in (admin("k"), other):
        if command is not None:
            decided = decide(fold.state, command)
            assert not isinstance(decided, Denied)
            fold.evolve(decided[0])
    decided = decide(fold.state, RevokeKey(key="k"))
    if is_revoked:
        assert decided == [ApiKeyRevoked(key="k")]
    else:
        assert isinstance(decided, Denied)
        assert decided.code == "last_admin_key"
    if other is not None and not is_revoked:
        assert decide(fold.state, RevokeKey(key="l")) == [ApiKeyRevoked(key="l")]


def test_keys_and_their_scopes_are_bounded() -> None:
    """One more than all is denied, and so is a key with too many scopes."""
    fold = Fold()
    for number in range(KEYS_MAX):
        facts = decide(fold.state, _created(f"k{number}", ["*"]))
        assert isinstance(facts, list)
        for fact in facts:
            fold.evolve(fact)
    for command in (_created("more", ["*"]), _created("k1", ["a"] * (SCOPES_MAX + 1))):
        denied = decide(fold.state, command)
        assert isinstance(denied, Denied)
        assert denied.code == "too_many_keys"


def _created(key: str, scopes: list[str]) -> CreateKey:
    return CreateKey(key=key, digest=b"d", role="client", scopes=scopes)
