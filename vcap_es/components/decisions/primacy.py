"""Who may lead: the register `(epoch, version, leader, isr)`, and what follows from it. Pure.

A majority of the voters holds the newest configuration. A change of the voters is joint: until it
is decided, and the next one without `before` after it, majorities of the old and of the new voters
are needed (Ongaro, "Consensus: bridging theory and practice", section 4.3).
"""

from collections.abc import Collection, Iterable

from msgspec import Struct, structs

from vcap_es.events.facts.bounds import Count

SLOTS = 2
"""Masters of a data centre: each has a slot, 0 or 1."""

WITNESSES_MAX = 3
"""Servers that vote, at most; where there are fewer than three, one does."""


class Config(Struct, frozen=True, array_like=True, gc=False):
    """One value of the register.

    `isr` are the masters that hold every acknowledged event; only one of them may be elected.
    `before` are the voters until now while a change of `voters` is under way, else empty.
    `forced` is the epoch of the last promotion that operators forced, 0 for none: what was
    acknowledged before it, and its leader has not, was given up.
    """

    epoch: Count
    version: Count
    leader: str
    isr: tuple[str, ...]
    voters: tuple[str, ...]
    before: tuple[str, ...] = ()
    forced: Count = 0

    @property
    def stamp(self) -> tuple[int, int]:
        """(epoch, version): of two configurations, the larger is the newer."""
        return self.epoch, self.version


def created(master: str) -> Config:
    """The first configuration of a cluster: one master, alone."""
    return Config(0, 0, "", (master,), (master,))


def is_quorum(config: Config, answered: Collection[str]) -> bool:
    """Whether those who answered decide for `config`: a majority of its voters, old and new."""
    groups = (config.voters, config.before) if config.before else (config.voters,)
    return all(2 * sum(each in answered for each in group) > len(group) for group in groups)


def electorate(config: Config) -> tuple[str, ...]:
    """Everybody whose answer counts, in a fixed order."""
    return tuple(dict.fromkeys((*config.voters, *config.before)))


def newest(configs: Iterable[Config]) -> Config:
    """The newest of some configurations."""
    return max(configs, key=lambda each: each.stamp)


def next_epoch(slot: int, highest: int) -> int:
    """The first epoch above `highest` that belongs to `slot`; no other slot ever has it."""
    epoch = highest + 1
    return epoch + (slot - epoch) % SLOTS


def elected(config: Config, candidate: str, epoch: int, *, is_forced: bool = False) -> Config:
    """What `candidate` proposes when a majority has promised `epoch` to it."""
    return structs.replace(
        config,
        epoch=epoch,
        version=1,
        leader=candidate,
        isr=(candidate,),
        forced=epoch if is_forced else config.forced,
    )


def without(config: Config, gone: Collection[str], candidate: str) -> Config:
    """What `config` is worth where these voters never come back; `candidate`, if none is left.

    A node is named by its id or by the beginning of it, as `m0` or `w-s1`.
    """
    left = tuple(each for each in electorate(config) if not is_named(each, gone))
    return structs.replace(config, voters=left or (candidate,), before=()) if gone else config


def is_named(node: str, names: Collection[str]) -> bool:
    """Whether one of the names is this node's id, or the part of it before the random one."""
    return node in names or node.rpartition("-")[0] in names


def with_isr(config: Config, isr: Collection[str]) -> Config:
    """The next configuration of the same leader, with these masters in sync."""
    return structs.replace(config, version=config.version + 1, isr=tuple(sorted(isr)))


def with_voters(config: Config, voters: Collection[str]) -> Config:
    """The joint configuration on the way to these voters."""
    return structs.replace(
        config,
        version=config.version + 1,
        voters=tuple(sorted(voters)),
        before=config.voters,
    )


def settled(config: Config) -> Config:
    """The configuration behind a joint one that is decided: the old voters are let go."""
    return structs.replace(config, version=config.version + 1, before=())


def master_id(slot: int, random: str) -> str:
    """The node id of a master: made with its empty store, so who lost the store is another."""
    return f"m{slot}-{random}"


def witness_id(name: str, random: str) -> str:
    """The node id of a witness; one that lost its store comes back by the same name."""
    return f"w-{name}-{random}"


def is_witness(node: str) -> bool:
    """Whether a node id is that of a witness."""
    return node.startswith("w-")


def withdrawn(config: Config) -> Config:
    """The next configuration instead of a joint one that is not decided: the voters stay.

    Whatever the joint one rests on has a majority of these voters, so that sees this one too.
    """
    assert config.before, "only a change of the voters can be withdrawn"
    return structs.replace(config, version=config.version + 1, voters=config.before, before=())


def wanted_voters(
    config: Config, masters: Collection[str], linked: Collection[str]
) -> tuple[str, ...]:
    """Which voters there should be, with these masters in sync and these witnesses linked.

    All of these hold a configuration, so that they can vote whatever happens to who tells them.

    Both masters and an odd number of witnesses, at most three. The lone master where there is no
    second one or no witness, because two voters bear no loss at all. Who votes stays, unless its
    store was lost: then there is another witness of its name.
    """
    renewed = {each.rpartition("-")[0] for each in linked}
    kept = [each for each in config.voters if is_witness(each)]
    kept = [each for each in kept if each.rpartition("-")[0] not in renewed or each in linked]
    witnesses = list(dict.fromkeys((*kept, *sorted(linked))))
    if len(masters) < SLOTS or not witnesses:
        return config.voters
    count = WITNESSES_MAX if len(witnesses) >= WITNESSES_MAX else 1
    return tuple(sorted((*masters, *witnesses[:count])))
