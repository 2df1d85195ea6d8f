"""Facts of access: the API keys of clients, operators and auditors."""

from typing import Literal

from msgspec import Struct

from vcap_es.events.facts.bounds import Long

Role = Literal["client", "auditor", "operator", "admin"]


class ApiKeyCreated(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Whoever knows the secret with this SHA-256 digest may act in `role` on the caps in `scopes`.

    A scope is a pattern of cap ids with `*` for any characters, or `group:` and a group's name.
    `expires_at` is in microseconds UTC; None means never.
    """

    key: str
    digest: bytes
    role: Role
    scopes: list[str]
    expires_at: Long | None


class ApiKeyRevoked(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The key opens nothing any more."""

    key: str
