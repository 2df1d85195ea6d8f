"""Data centres of real processes, which share caps over a real broker."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from compose.broker import Broker
from compose.packages import Unavailable
from tests.support.deployment import Deployment, deployed, eventually

SECRET = "between {} and {}: 0123456789abcdef"


@contextmanager
def broker_in(directory: Path, broker: Broker | None = None) -> Iterator[Broker]:
    """A running broker; the test is skipped, with the reason, where none can be had."""
    broker = broker or Broker(directory)
    try:
        broker.start()
    except Unavailable as reason:
        pytest.skip(str(reason))
    try:
        yield broker
    finally:
        broker.stop()


class Centres:
    """Data centres by name, each with a broker that it reads from."""

    def __init__(self, deployments: dict[str, Deployment]) -> None:
        self.deployments = deployments

    def __getitem__(self, name: str) -> Deployment:
        return self.deployments[name]

    def items(self) -> Iterable[tuple[str, Deployment]]:
        """The data centres with their names."""
        return self.deployments.items()

    def verify(self) -> None:
        """Every log is sound."""
        for each in self.deployments.values():
            each.verify()


def environment_of(
    name: str, names: Sequence[str], directory: Path, brokers: dict[str, str]
) -> dict[str, str]:
    """What a node of the data centre `name` must know of the others; `brokers` by who reads."""
    found = {"VCAP__DATA_CENTRE": name, "VCAP__REMOTE__BROKER": brokers[name]}
    for other in names:
        if other != name:
            pair = sorted((name, other))
            secret = directory / f"{'-'.join(pair)}.secret"
            secret.touch(mode=0o600)
            secret.write_text(SECRET.format(*pair))
            prefix = f"VCAP__REMOTE__CENTRES__{other.upper()}"
            found[f"{prefix}__SECRET_FILE"] = str(secret)
            found[f"{prefix}__BROKER"] = brokers[other]
    return found


@contextmanager
def centres_in(
    directory: Path,
    names: Sequence[str],
    brokers: dict[str, str],
    *,
    servers: int = 1,
    masters: int = 1,
    environment: dict[str, str] | None = None,
    members: Sequence[str] | None = None,
) -> Iterator[Centres]:
    """Running data centres, of which all or the `members` take part."""
    with ExitStack() as stack:
        deployments = {}
        for name in names:
            own = directory / name
            own.mkdir(parents=True, exist_ok=True)
            deployments[name] = stack.enter_context(
                deployed(
                    own,
                    servers,
                    {**(environment or {}), **environment_of(name, names, directory, brokers)},
                    masters=masters,
                    witnesses=1 if masters > 1 else 0,
                )
            )
        centres = Centres(deployments)
        if members != ():
            join(centres, names if members is None else members)
        yield centres


def join(centres: Centres, members: Sequence[str]) -> None:
    """The first of the `members` adds them all; returns when all know each other."""
    for name in members:
        centres[members[0]].control("PUT", f"/v1/centres/{name}", {})
    for name in members:
        eventually(lambda name=name: members_of(centres[name]) == {*members}, f"{name} knows all")


def members_of(centre: Deployment) -> set[str]:
    """The data centres that take part, as one of them knows; they are known by their logs."""
    found = centre.control("GET", "/v1/centres")["centres"]
    return {each["name"] for each in found if each["membership"] == "in" and each["cluster"]}
