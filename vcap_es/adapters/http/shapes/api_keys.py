"""API keys, as the control plane takes and answers them."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from vcap_es.adapters.http.shapes.scalars import Instant, formatted_instant
from vcap_es.components.decisions.access import SCOPES_MAX
from vcap_es.events.facts import ApiKeyCreated
from vcap_es.events.facts.access import Role

KeyId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]


ScopeText = Annotated[
    str,
    Meta(
        pattern=r"^([A-Za-z0-9._:*-]{1,128}|group:[A-Za-z0-9._:-]{1,128})$",
        description="A pattern of cap ids with * for any characters, or group: and a group.",
    ),
]


class Key(Struct, frozen=True, kw_only=True):
    """An API key in force; its secret is not known."""

    id: str
    role: Role
    scopes: list[str]
    expires_at: Instant | None


class Keys(Struct, frozen=True, kw_only=True):
    """A page of the API keys in force, sorted by their id."""

    keys: list[Key]
    next: str | None


class KeyRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The key to be made. Without `id` it gets one, without `expires_at` it stays in force."""

    role: Role
    scopes: Annotated[list[ScopeText], Meta(min_length=1, max_length=SCOPES_MAX)]
    id: KeyId | UnsetType = UNSET
    expires_at: Instant | None = None


class MadeKey(Key, frozen=True, kw_only=True):
    """A key that was just made; `secret` is its whole text, told this once."""

    secret: str


def key_of(fact: ApiKeyCreated) -> Key:
    """A key as it is shown."""
    return Key(
        id=fact.key,
        role=fact.role,
        scopes=fact.scopes,
        expires_at=formatted_instant(fact.expires_at),
    )
