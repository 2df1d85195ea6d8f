"""API keys: who calls, in which role, and on which caps.

A key's text is `vcap_<id>_<secret>`, the secret 64 hexadecimal digits of 256 random bits. Only the
SHA-256 digest of the secret is in the log, so whoever reads the log cannot call.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from hmac import compare_digest
from typing import Protocol

from msgspec import Struct

from vcap_es.clock import now_us
from vcap_es.components.decisions.access import CreateKey
from vcap_es.components.decisions.denied import Denied
from vcap_es.errors import InvalidInput
from vcap_es.events.facts import ApiKeyCreated
from vcap_es.events.facts.access import Role
from vcap_es.events.patterns import matches

KEY_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
RANDOM_BYTES = 40
"""What a new key is made of: 8 bytes for its id and 32 for its secret."""

CALLERS_KEPT = 4096
HEADER_BYTES_MAX = 256

_HEADER = re.compile(rb"(?i:bearer) +vcap_([A-Za-z0-9._:-]{1,64})_([0-9a-f]{64})")
_NO_DIGEST = bytes(32)


class NewKey(Struct, frozen=True):
    """A key that was just made: `text` is shown to its holder once and kept by nobody else."""

    key: str
    text: str
    digest: bytes


class Scopes:
    """The caps that a key opens: patterns of cap ids, and `group:` with a group's name."""

    def __init__(self, scopes: Iterable[str]) -> None:
        scopes = [scope for scope in scopes if scope]  # an empty text names no cap at all
        self._groups = {scope[6:] for scope in scopes if scope.startswith("group:")}
        self.has_groups = bool(self._groups)
        patterns = [scope for scope in scopes if not scope.startswith("group:")]
        self._ids = {scope for scope in patterns if "*" not in scope}
        # What is asked at every consume is one call of C, not a loop.
        self._starts = tuple(each[:-1] for each in patterns if each.find("*") == len(each) - 1)
        self._patterns = [scope for scope in patterns if "*" in scope[:-1]]

    def hold(self, cap: str, group: str | None) -> bool:
        """Whether `cap`, of the group `group`, is one of them."""
        return (
            cap.startswith(self._starts)
            or cap in self._ids
            or group in self._groups
            or any(matches(pattern, cap) for pattern in self._patterns)
        )

    @property
    def are_all(self) -> bool:
        """Whether they open every cap there is or will be."""
        return self.hold("", None)

    def cover(self, scope: str) -> bool:
        """Whether they open every cap that `scope` opens."""
        if scope.startswith("group:"):
            return self.are_all or scope[6:] in self._groups
        # What fits a pattern fits every pattern that the pattern's own text fits.
        return self.hold(scope, None)


class Client(Struct, frozen=True, gc=False):
    """A caller whose key is good: the key's public id, its role, and what it opens."""

    key: str
    role: Role
    scopes: Scopes

    def allows(self, cap: str, group: str | None) -> bool:
        """Whether the key opens `cap`, which belongs to `group` (None: to no group)."""
        return self.scopes.hold(cap, group)


class Callers:
    """Tells callers by the `Authorization` header that they send.

    What was found is remembered by the header's bytes, at most `CALLERS_KEPT` of them, and holds
    for as long as the very fact that made the key is in force and the key has not expired.
    """

    def __init__(
        self, keys: Callable[[], Mapping[str, ApiKeyCreated]], now: Callable[[], int] = now_us
    ) -> None:
        """Take the keys in force from `keys`, and the time in microseconds UTC from `now`."""
        self._keys = keys
        self._now = now
        self._known: dict[bytes, tuple[Client, ApiKeyCreated]] = {}

    def find(self, header: bytes) -> Client | None:
        """Whose key `header` carries, as in `Bearer <key>`; None where it opens nothing."""
        known = self._known.get(header)
        if known is None:
            known = self._look_up(header)
            if known is None:
                return None
        client, fact = known
        if self._keys().get(client.key) is not fact:
            # Revoked, or told anew by the master: forget, and look again at most once.
            del self._known[header]
            return self.find(header)
        if fact.expires_at is not None and self._now() >= fact.expires_at:
            return None
        return client

    def _look_up(self, header: bytes) -> tuple[Client, ApiKeyCreated] | None:
        parsed = _HEADER.fullmatch(header) if len(header) <= HEADER_BYTES_MAX else None
        if parsed is None:
            return None
        fact = self._keys().get(parsed[1].decode())
        # An unknown id is compared as well, so that the time taken does not tell it from a known.
        is_good = compare_digest(digest(parsed[2].decode()), fact.digest if fact else _NO_DIGEST)
        if fact is None or not is_good:
            return None
        if len(self._known) >= CALLERS_KEPT:
            self._known.clear()
        found = Client(fact.key, fact.role, Scopes(fact.scopes)), fact
        self._known[header] = found
        return found


def digest(secret: str) -> bytes:
    """What the log keeps of a key's secret."""
    return sha256(secret.encode()).digest()


def new_key(random: bytes, key: str | None = None) -> NewKey:
    """A key made of `RANDOM_BYTES` random bytes, with the public id `key` if one is given.

    Raises InvalidInput where the id or the number of bytes cannot be used.
    """
    if len(random) != RANDOM_BYTES:
        raise InvalidInput(f"a key is made of {RANDOM_BYTES} random bytes, not {len(random)}")
    if key is not None and not KEY_ID.fullmatch(key):
        raise InvalidInput(f"a key's id is 1 to 64 of A-Z a-z 0-9 . _ : -, not {key[:80]!r}")
    key = key or random[:8].hex()
    secret = random[8:].hex()
    return NewKey(key=key, text=f"vcap_{key}_{secret}", digest=digest(secret))


class Submits(Protocol):
    """What the making of a key needs of a master."""

    async def submit(self, command: CreateKey, *, actor: str, correlation: str) -> object:
        """Decide `command`; a `Denied` is the answer no."""


async def create_key(
    master: Submits,
    *,
    role: Role,
    scopes: list[str],
    random: bytes,
    key: str | None = None,
    expires_at: int | None = None,
    actor: str = "vcap",
    correlation: str = "",
) -> tuple[str, str]:
    """Make a key known to `master`; returns its public id and its text, once it is durable.

    `random` is `RANDOM_BYTES` fresh random bytes; `expires_at` is in microseconds UTC. Raises
    InvalidInput where the master denies it, as it does for an id that exists.
    """
    made = new_key(random, key)
    command = CreateKey(
        key=made.key, digest=made.digest, role=role, scopes=scopes, expires_at=expires_at
    )
    answer = await master.submit(command, actor=actor, correlation=correlation)
    if isinstance(answer, Denied):
        raise InvalidInput(answer.detail)
    return made.key, made.text
