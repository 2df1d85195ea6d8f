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


def decide(state: DataCentre, command: AccessCommand) -> list[Fact] | Denied:
    """The facts that follow from `command`; none where it is so already."""
    found = state.access.keys.get(command.key)
    if isinstance(command, RevokeKey):
        return [ApiKeyRevoked(key=command.key)] if found else _unknown(command.key)
    fact = ApiKeyCreated(
        key=command.key,
        digest=command.digest,
        role=command.role,
        scopes=command.scopes,
        expires_at=command.expires_at,
    )
    if found is None:
        return [fact]
    return [] if found == fact else _exists(command.key)


def _unknown(key: str) -> Denied:
    return Denied(code="unknown_key", detail=f"no API key {key!r}: list them to see which exist")


def _exists(key: str) -> Denied:
    return Denied(code="key_exists", detail=f"API key {key!r} exists: choose another id")
