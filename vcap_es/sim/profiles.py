"""Profiles: how a kind of life is drawn from its seed."""

from random import Random

from msgspec import Struct, field

from vcap_es.components.limits import Limits
from vcap_es.components.timings import Timings
from vcap_es.sim.mishaps import WEIGHTS, Mishap, draw
from vcap_es.sim.network import Faults
from vcap_es.sim.site import NOON

SECOND_US = 1_000_000
LIMITS = Limits(refund_window_ms=300, lead_ms=2000)


class Profile(Struct, frozen=True, kw_only=True):
    """A kind of life: which mishaps, how many and for how long, among which nodes.

    `early_percent` is how many lives have mishaps before the data centre is complete;
    `lossy_percent` how many have links that are as bad as datagrams.
    """

    name: str
    weights: dict[str, int] = field(default_factory=WEIGHTS.copy)
    mishaps: tuple[int, int] = (2, 16)
    safety_ms: tuple[int, int] = (2500, 7000)
    lasts_ms: tuple[int, ...] = (1, 30, 200, 1200, 3000)
    witnesses: tuple[int, ...] = (1, 1, 3)
    delays_us: tuple[int, ...] = (300, 2000, 20_000)
    early_percent: int = 30
    lossy_percent: int = 30
    is_busy: bool = False


class Options(Struct, frozen=True, kw_only=True):
    """What one life is like, but for its mishaps."""

    witnesses: int
    servers: int
    lose: int
    repeat: int
    delay_us: int
    fsync_us: int
    is_ordered: bool
    is_strict: bool
    spawns: bool
    totals: tuple[int, ...]
    rates: tuple[int, ...]
    gap_us: int
    now: int
    safety_ms: int
    waits_ms: int

    def __str__(self) -> str:
        """As it is printed for a life that fails."""
        mode = "ordered" if self.is_ordered else f"drop={self.lose}% dup={self.repeat}%"
        return (
            f"{mode} delay={self.delay_us}us fsync={self.fsync_us}us voters={2 + self.witnesses}"
            f" servers={self.servers} totals={list(self.totals)} rates={list(self.rates)}"
            f" strict={self.is_strict} spawns={self.spawns} gap={self.gap_us}us"
            f" safety={self.safety_ms}ms"
        )

    @property
    def faults(self) -> Faults:
        """How bad links and disks are."""
        return Faults(
            lose=self.lose,
            repeat=self.repeat,
            delay_us_max=self.delay_us,
            fsync_us_max=self.fsync_us,
            is_ordered=self.is_ordered,
        )

    @property
    def timings(self) -> Timings:
        """How long primacy waits."""
        return Timings(is_strict=self.is_strict)


def options(profile: Profile, seed: int) -> Options:
    """The options of the life `seed`."""
    random = Random(f"{seed}/options/{profile.name}")
    is_ordered = random.random() * 100 >= profile.lossy_percent
    witnesses = random.choice(profile.witnesses)
    servers = max(witnesses, random.choice((2, 3, 3)))
    return Options(
        witnesses=witnesses,
        servers=servers,
        lose=0 if is_ordered else random.choice((0, 2, 10)),
        repeat=0 if is_ordered else random.choice((0, 5, 20)),
        delay_us=random.choice(profile.delays_us),
        fsync_us=random.choice((200, 2000, 10_000)),
        is_ordered=is_ordered,
        is_strict=random.random() < 0.1,
        spawns=random.random() < 0.3,
        totals=tuple(random.choice((60, 200, 600, 5000)) for _ in range(random.randint(1, 3))),
        rates=tuple(random.choice((700, 1000, 1000, 1000, 1500)) for _ in range(2 + servers)),
        gap_us=random.choice((2000, 10_000) if profile.is_busy else (5000, 20_000, 60_000)),
        now=NOON + random.choice((5, 52, 56)) * SECOND_US,
        safety_ms=random.randint(*profile.safety_ms),
        waits_ms=0 if random.random() * 100 < profile.early_percent else 1500,
    )


def mishaps(profile: Profile, seed: int) -> list[Mishap]:
    """The mishaps of the life `seed`."""
    life = options(profile, seed)
    random = Random(f"{seed}/faults/{profile.name}")
    names = ["m0", "m1", *(f"s{index}" for index in range(life.servers))]
    return draw(
        random,
        profile.weights,
        names,
        count=random.randint(*profile.mishaps),
        until_ms=life.safety_ms,
        lasts_ms=profile.lasts_ms,
    )


FAILOVER = Profile(name="failover")
GROWTH = Profile(
    name="growth",
    weights={"crash": 10, "part": 6, "cut": 6, "reset": 10, "clog": 4, "pause": 2, "switch": 4},
    mishaps=(10, 30),
    safety_ms=(3000, 5000),
    lasts_ms=(1, 5, 30, 120, 700),
    early_percent=0,
    lossy_percent=10,
    is_busy=True,
)
DISKS = Profile(
    name="disks",
    weights={"power": 8, "crash": 6, "fsync": 6, "full": 5, "tail": 8, "wipe": 8, "part": 2},
    mishaps=(3, 12),
)
VOTERS = Profile(
    name="voters",
    weights={"wipe": 10, "part": 6, "cut": 6, "isolate": 6, "crash": 8, "reset": 4},
    mishaps=(4, 20),
    witnesses=(1, 3, 3),
    early_percent=70,
)
PROFILES = {each.name: each for each in (FAILOVER, GROWTH, DISKS, VOTERS)}
