"""API keys: who calls, in which role, on which caps, and until when."""

import asyncio
from collections.abc import Callable

import pytest

from vcap_es.adapters.http.callers import (
    CALLERS_KEPT,
    RANDOM_BYTES,
    Callers,
    NewKey,
    Scopes,
    create_key,
    digest,
    new_key,
)
from vcap_es.components.decisions.access import CreateKey
from vcap_es.components.decisions.denied import Denied
from vcap_es.errors import InvalidInput
from vcap_es.events.facts import ApiKeyCreated


def random_bytes(seed: int = 0) -> bytes:
    """Bytes that stand for random ones."""
    return bytes((seed * 7 + index) % 256 for index in range(RANDOM_BYTES))


def fact(
    made: NewKey, scopes: tuple[str, ...] = ("*",), expires_at: int | None = None
) -> ApiKeyCreated:
    """The fact that a key was made."""
    return ApiKeyCreated(
        key=made.key, digest=made.digest, role="client", scopes=list(scopes), expires_at=expires_at
    )


def bearer(text: str) -> bytes:
    """The header that carries a key."""
    return b"Bearer " + text.encode()


def callers(*facts: ApiKeyCreated, now: Callable[[], int] = lambda: 0) -> Callers:
    """Callers with these keys in force."""
    keys = {each.key: each for each in facts}
    return Callers(lambda: keys, now)


def test_a_key_opens() -> None:
    """Whoever sends the whole key is known, at the first call and at the next."""
    made = new_key(random_bytes())
    known = callers(fact(made))
    for header in (bearer(made.text), b"bearer   " + made.text.encode(), bearer(made.text)):
        found = known.find(header)
        assert found is not None
        assert (found.key, found.role) == (made.key, "client")


def test_only_the_whole_key_opens() -> None:
    """Another secret, another id, another scheme, a longer and a shorter key open nothing."""
    made, other = new_key(random_bytes()), new_key(random_bytes(1))
    known = callers(fact(made), fact(other))
    text = made.text
    secret = text.rpartition("_")[2]
    wrong = [
        b"",
        b"Bearer",
        b"Basic " + text.encode(),
        text.encode(),
        bearer(text + "0"),
        bearer(text[:-1]),
        bearer(text[:-1] + ("0" if text[-1] != "0" else "1")),
        bearer(text.upper()),
        bearer(f"vcap_{other.key}_{secret}"),
        bearer(f"vcap_nobody_{secret}"),
        bearer(f"vcap__{secret}"),
        bearer(text + " "),
        bearer(text + "\n"),
        b"Bearer " + b"x" * 100_000,
        bearer(text).replace(b"v", b"\xff"),
    ]
    for header in wrong:
        assert known.find(header) is None, header


def test_a_revoked_key_opens_nothing_at_once() -> None:
    """What was remembered of a key ends with the key."""
    made = new_key(random_bytes())
    keys = {made.key: fact(made)}
    known = Callers(lambda: keys, lambda: 0)
    assert known.find(bearer(made.text))
    # When the keys are replaced
    keys = {}
    # Then
    assert known.find(bearer(made.text)) is None


def test_a_key_told_anew_counts_anew() -> None:
    """Another secret or other scopes under the same id take effect at the next call."""
    made, other = new_key(random_bytes(), "a"), new_key(random_bytes(1), "a")
    keys = {"a": fact(made, ("x",))}
    known = Callers(lambda: keys, lambda: 0)
    first = known.find(bearer(made.text))
    assert first is not None
    assert not first.allows("y", None)
    keys = {"a": fact(made, ("y",))}
    second = known.find(bearer(made.text))
    assert second is not None
    assert second.allows("y", None)
    keys = {"a": fact(other)}
    assert known.find(bearer(made.text)) is None
    assert known.find(bearer(other.text))


def test_a_key_expires_on_the_instant() -> None:
    """Expiry is looked at on each call, also of a caller who is remembered."""
    made = new_key(random_bytes())
    now = 99
    known = callers(fact(made, expires_at=100), now=lambda: now)
    assert known.find(bearer(made.text))
    now = 100
    assert known.find(bearer(made.text)) is None


def test_what_is_remembered_is_bounded() -> None:
    """Any number of spellings of a header is remembered at most `CALLERS_KEPT` times."""
    made = new_key(random_bytes())
    known = callers(fact(made))
    for spaces in range(1, 100):
        for bits in range(50):
            scheme = "".join(
                letter.upper() if bits >> at & 1 else letter for at, letter in enumerate("bearer")
            )
            assert known.find(f"{scheme}{' ' * spaces}{made.text}".encode())
    assert len(known._known) <= CALLERS_KEPT


@pytest.mark.parametrize(
    ("scopes", "cap", "group", "expected"),
    [
        (["*"], "a", None, True),
        ([], "a", None, False),
        ([""], "a", None, False),
        (["", "b"], "a", None, False),
        (["a"], "a", None, True),
        (["a"], "ab", None, False),
        (["a*"], "ab", None, True),
        (["a*"], "ba", None, False),
        (["*b"], "ab", None, True),
        (["user:*:day"], "user:7:day", None, True),
        (["user:*:day"], "user:7:month", None, False),
        (["group:shop"], "a", "shop", True),
        (["group:shop"], "a", "shops", False),
        (["group:shop"], "a", None, False),
        (["group:shop"], "group:shop", None, False),
        (["x", "group:shop", "y*"], "yes", None, True),
    ],
)
def test_scopes(scopes: list[str], cap: str, group: str | None, expected: bool) -> None:
    """A scope is a cap's id, a pattern of ids, or a group; nothing else is opened."""
    assert Scopes(scopes).hold(cap, group) is expected


@pytest.mark.parametrize(("scopes", "expected"), [([""], False), (["a*"], False), (["*"], True)])
def test_only_what_opens_everything_opens_all(scopes: list[str], expected: bool) -> None:
    """An empty text opens nothing, and least of all everything."""
    assert Scopes(scopes).are_all is expected
    assert Scopes(scopes).cover("b*") is expected


def test_the_secret_is_not_in_what_is_kept() -> None:
    """The command that makes a key has its digest and nothing of its secret."""

    class Master:
        command: CreateKey | None = None

        async def submit(self, command: CreateKey, *, actor: str, correlation: str) -> object:
            self.command = command
            return actor, correlation

    master = Master()
    key, text = asyncio.run(create_key(master, role="admin", scopes=["*"], random=random_bytes(3)))
    secret = text.removeprefix(f"vcap_{key}_")
    assert master.command == CreateKey(
        key=key, digest=digest(secret), role="admin", scopes=["*"], expires_at=None
    )
    assert secret not in repr(master.command)
    assert callers(fact(new_key(random_bytes(3)))).find(bearer(text))


def test_a_refused_key_is_said() -> None:
    """Where the master denies a key, there is no key."""

    class Master:
        async def submit(self, command: CreateKey, *, actor: str, correlation: str) -> object:
            return Denied(code="key_exists", detail=f"{command.key} exists")

    making = create_key(Master(), role="client", scopes=[], random=random_bytes(), key="a")
    with pytest.raises(InvalidInput, match="exists"):
        asyncio.run(making)


def test_a_key_is_made_of_enough_randomness() -> None:
    """Too few random bytes and an id of other letters are refused."""
    with pytest.raises(InvalidInput):
        new_key(bytes(32))
    for key in ("", "a b", "a" * 65, "ä", "a\n"):
        with pytest.raises(InvalidInput):
            new_key(random_bytes(), key)
