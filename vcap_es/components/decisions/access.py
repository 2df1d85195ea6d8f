"""What follows from an administrator's command about API keys."""

from msgspec import Struct

from vcap_es.components.decisions.denied import Denied
from vcap_es.events.facts import ApiKeyCreated, ApiKeyRevoked, Fact
from vcap_es.events.facts.access import Role
from vcap_es.projections.states.data_centre import DataCentre


class CreateKey(Struct, frozen=True, kw_only=True, gc=False):
    """Let the holder of a secret with this SHA-256 digest act in `role` on `scopes`."""

    key: str
    digest: bytes
    role: Role
    scopes: list[str]
    expires_at: int | None = None


class RevokeKey(Struct, frozen=True, kw_only=True, gc=False):
    """Let the key open nothing any more."""

    key: str


AccessCommand = CreateKey | RevokeKey

KEYS_MAX = 2000
SCOPES_MAX = 64
"""All keys are told to every server in one message, so there is a bound on them."""

_LAST = (
    "the last admin key cannot be revoked: make another first, with the scope * and without an "
    "expiry"
)


def decide(state: DataCentre, command: AccessCommand) -> list[Fact] | Denied:
    """The facts that follow from `command`; none where it is so already."""
    found = state.access.keys.get(command.key)
    if isinstance(command, RevokeKey):
        return _revoke(state, found) if found else _unknown(command.key)
    fact = ApiKeyCreated(
        key=command.key,
        digest=command.digest,
        role=command.role,
        scopes=command.scopes,
        expires_at=command.expires_at,
    )
    if len(command.scopes) > SCOPES_MAX:
        return _too_many(f"{len(command.scopes)} scopes in one key: {SCOPES_MAX} at most")
    if found is None and len(state.access.keys) >= KEYS_MAX:
        return _too_many(f"there are {KEYS_MAX} API keys: revoke one first")
    if found is None:
        return [fact]
    return [] if found == fact else _exists(command.key)


def _revoke(state: DataCentre, found: ApiKeyCreated) -> list[Fact] | Denied:
    """The log tells no secret, so without an admin key nobody could ever make one again."""
    others = (each for each in state.access.keys.values() if each.key != found.key)
    if _is_lasting_admin(found) and not any(map(_is_lasting_admin, others)):
        return Denied(code="last_admin_key", detail=_LAST)
    return [ApiKeyRevoked(key=found.key)]


def _is_lasting_admin(key: ApiKeyCreated) -> bool:
    """Whether it can make every other key, and always will."""
    return key.role == "admin" and "*" in key.scopes and key.expires_at is None


def _unknown(key: str) -> Denied:
    return Denied(code="unknown_key", detail=f"no API key {key!r}: list them to see which exist")


def _too_many(detail: str) -> Denied:
    return Denied(code="too_many_keys", detail=detail)


def _exists(key: str) -> Denied:
    return Denied(code="key_exists", detail=f"API key {key!r} exists: choose another id")
