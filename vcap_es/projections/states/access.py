"""The state of access: which API keys open what."""

from msgspec import Struct

from vcap_es.events.facts import ApiKeyCreated, ApiKeyRevoked


class Access(Struct):
    """The API keys in force, by their public id."""

    keys: dict[str, ApiKeyCreated] = {}


def evolve(access: Access, fact: ApiKeyCreated | ApiKeyRevoked) -> None:
    """A key was created or revoked."""
    match fact:
        case ApiKeyCreated():
            access.keys[fact.key] = fact
        case ApiKeyRevoked():
            access.keys.pop(fact.key, None)
