"""Profiles: how a kind of life is drawn from its seed."""

from collections.abc import Callable
from random import Random

from msgspec import Struct, field

from vcap_es.components.consensus.timings import Timings
from vcap_es.components.consensus.window import WINDOW, LogWindow
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.events.units import SECOND_US
from vcap_es.sim.environment.network import Faults
from vcap_es.sim.environment.site import NOON
from vcap_es.sim.lives.fault_schedule import WEIGHTS, Mishap, draw

LIMITS = Limits(refund_window_ms=300, lead_ms=2000)


class Profile(Struct, frozen=True, kw_only=True):
    """A kind of life: which mishaps, how many and for how long, among which nodes.

    `early_percent` is how many lives have mishaps before the data centre is complete;
    `lossy_percent` how many have links that are as bad as datagrams; `leaves_percent` how many, of
    those with three witnesses, end with one that never comes back. With `is_busy`, clients ask
    all the time. With `is_steady`, nothing happens that should cost a leader its place. With
    `gives_up`, operators give up acknowledged events: then nothing is edited, as what was closed in
    them is not known to have been any more. `directed` makes the mishaps, where they are not drawn
    by `weights`.
    """

    name: str
    weights: dict[str, int] = field(default_factory=WEIGHTS.copy)
    mishaps: tuple[int, int] = (2, 16)
    safety_ms: tuple[int, int] = (2000, 6000)
    lasts_ms: tuple[int, ...] = (1, 30, 200, 1200, 3000)
    witnesses: tuple[int, ...] = (1, 1, 3)
    delays_us: tuple[int, ...] = (300, 2000, 20_000)
    fsyncs_us: tuple[int, ...] = (200, 2000, 10_000)
    reads_us: tuple[int, ...] = (0,)
    windows: tuple[LogWindow, ...] = (WINDOW,)
    repeats: tuple[int, ...] = (0, 5, 20)
    early_percent: int = 30
    lossy_percent: int = 30
    leaves_percent: int = 30
    is_busy: bool = False
    is_steady: bool = False
    gives_up: bool = False
    directed: Callable[[Random], list[Mishap]] | None = None


class Options(Struct, frozen=True, kw_only=True):
    """What one life is like, but for its mishaps.

    With `leaves_one` the last witness never comes back: the others must do without it.
    """

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
    leaves_one: bool
    read_us: int
    window: LogWindow

    def __str__(self) -> str:
        """As it is printed for a life that fails."""
        mode = "ordered" if self.is_ordered else f"drop={self.lose}% dup={self.repeat}%"
        return (
            f"{mode} delay={self.delay_us}us fsync={self.fsync_us}us read={self.read_us}us"
            f" window={self.window.recent}/{self.window.message} voters={2 + self.witnesses}"
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
            read_us_max=self.read_us,
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
        repeat=0 if is_ordered else random.choice(profile.repeats),
        delay_us=random.choice(profile.delays_us),
        fsync_us=random.choice(profile.fsyncs_us),
        is_ordered=is_ordered,
        is_strict=random.random() < 0.1,
        spawns=random.random() < 0.3,
        totals=tuple(random.choice((60, 200, 600, 5000)) for _ in range(random.randint(1, 3))),
        rates=tuple(random.choice((700, 1000, 1000, 1000, 1500)) for _ in range(2 + servers)),
        gap_us=random.choice((5000, 10_000) if profile.is_busy else (10_000, 20_000, 60_000)),
        now=NOON + random.choice((5, 52, 56)) * SECOND_US,
        safety_ms=random.randint(*profile.safety_ms),
        waits_ms=0 if random.random() * 100 < profile.early_percent else 1500,
        leaves_one=witnesses == 3 and random.random() * 100 < profile.leaves_percent,
        read_us=random.choice(profile.reads_us),
        window=random.choice(profile.windows),
    )


def mishaps(profile: Profile, seed: int) -> list[Mishap]:
    """The mishaps of the life `seed`."""
    life = options(profile, seed)
    random = Random(f"{seed}/faults/{profile.name}")
    if profile.directed is not None:
        return profile.directed(random)
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
# No message is repeated here: each is answered at once by a server whose disk is slow.
COPIES = Profile(
    name="copies",
    weights={
        "wipe": 8,
        "crash": 10,
        "power": 4,
        "reset": 12,
        "cut": 6,
        "part": 4,
        "clog": 8,
        "slow": 6,
        "pause": 4,
        "full": 2,
        "hang": 4,
        "switch": 4,
    },
    mishaps=(6, 20),
    safety_ms=(5000, 9000),
    lasts_ms=(1, 30, 200, 700, 2000, 4000),
    fsyncs_us=(200, 10_000, 50_000, 300_000),
    reads_us=(200, 50_000, 400_000, 1_500_000),
    repeats=(0,),
    windows=tuple(
        LogWindow(recent=recent, message=message, under_way=4 * message)
        for recent, message in ((4, 2), (16, 8), (64, 8), (64, 32))
    ),
    early_percent=10,
    lossy_percent=20,
    leaves_percent=0,
    is_busy=True,
)
VOTERS = Profile(
    name="voters",
    weights={"wipe": 10, "part": 6, "cut": 6, "isolate": 6, "crash": 8, "reset": 4},
    mishaps=(4, 20),
    witnesses=(1, 3, 3),
    early_percent=70,
)


def _flapping(random: Random) -> list[Mishap]:
    """The secondary is cut off and comes back, again and again, while the leader is well."""
    starts = [random.randint(0, 300) + 2500 * index for index in range(2)]
    return [Mishap(at_ms, "isolate", "m1", "", random.randint(1400, 2200)) for at_ms in starts]


def _joint(random: Random) -> list[Mishap]:
    """Two witnesses join late, and just then the data centre falls into two halves."""
    joined_ms = random.randint(800, 1000)
    parted_ms = joined_ms + random.randint(0, 400)
    halves = [(one, other) for one in ("m0", "s1", "s2") for other in ("m1", "s0")]
    late = [Mishap(0, "crash", name, "", joined_ms) for name in ("s1", "s2")]
    parts = [
        Mishap(parted_ms, "part", one, other, random.randint(2500, 4000)) for one, other in halves
    ]
    crash = Mishap(parted_ms + random.randint(0, 1500), "crash", "m0", "", random.randint(1, 100))
    return sorted([*late, *parts, crash], key=lambda each: each.at_ms)


def _solo(random: Random) -> list[Mishap]:
    """The leader goes on alone, dies, and the witness has forgotten what was committed."""
    parted_ms = random.randint(0, 300)
    crashed_ms = parted_ms + random.randint(1500, 3000)
    return [
        Mishap(parted_ms, "part", "m0", "m1", 4500),
        Mishap(parted_ms + 1, "reset", "m0", "m1", 1),
        Mishap(crashed_ms, "crash", "s0", "", random.randint(1, 200)),
        Mishap(crashed_ms + random.randint(0, 250), "crash", "m0", "", random.randint(2500, 4000)),
    ]


def _promises(random: Random) -> list[Mishap]:
    """A voter promises, and loses its process or its disk before the candidate has a majority."""
    ms = random.randint(0, 300)
    lasts_ms = random.randint(3500, 5000)
    apart = [("m0", "m1"), ("m0", "s1"), ("m1", "s2")]
    lost = random.choice(
        (
            [Mishap(ms + 900, "behind", "s0", "", 2000)],
            [Mishap(ms + 900, "behind", "s0", "", 2000, 1)],
            # A slow disk, so that it dies with its promise half written.
            [Mishap(ms, "slow", "s0", "", lasts_ms), Mishap(ms + 900, "amid", "s0", "", 2000)],
        )
    )
    return [
        *(Mishap(ms, "part", one, other, lasts_ms) for one, other in apart),
        Mishap(ms, "part", "m0", "s0", random.randint(1250, 1700)),
        Mishap(ms, "clog", "s1", "m1", lasts_ms, random.randint(120, 300)),
        Mishap(ms + 1, "reset", "m0", "m1", 1),
        *lost,
    ]


def _tails(random: Random) -> list[Mishap]:
    """The secondary's log has lost its end, and it is needed at once, or is not."""
    ms = random.randint(0, 1500)
    mishaps = [Mishap(ms, "tail", "m1", "heard", random.randint(1, 500), random.randint(1, 20))]
    if random.random() < 0.5:
        mishaps.append(Mishap(ms + random.randint(0, 5), "crash", "m0", "", 3000))
    return mishaps


def _deposed(random: Random) -> list[Mishap]:
    """The leader is cut off, all others see it at once, and it does not."""
    ms = random.randint(0, 1000)
    resets = [Mishap(ms, "reset", "m0", name, 1) for name in ("m1", "s0", "s1")]
    return [Mishap(ms, "isolate", "m0", "", random.randint(700, 3000)), *resets]


def _forced(random: Random) -> list[Mishap]:
    """The leader goes on alone, and is lost with all that it had: operators force the other."""
    ms = random.randint(0, 300)
    forced_ms = ms + random.randint(1200, 2200)
    return [
        Mishap(ms, "part", "m0", "m1", 3000),
        Mishap(ms + 1, "reset", "m0", "m1", 1),
        Mishap(forced_ms, "force", "m1", "m0", random.randint(200, 1500)),
    ]


def _transfers(random: Random) -> list[Mishap]:
    """Masters die and links break, among as many as five data centres."""
    kinds = ("crash", "crash", "power", "part", "part", "isolate")
    mishaps = [
        Mishap(
            random.randint(0, 8000),
            random.choice(kinds),
            random.choice("abcde"),
            random.choice("abcde"),
            random.choice((20, 300, 2000, 6000)),
        )
        for _ in range(random.randint(0, 12))
    ]
    return sorted(mishaps, key=lambda each: each.at_ms)


LOSSY = Profile(
    name="lossy",
    weights={"reset": 10, "crash": 10, "cut": 10},
    witnesses=(3,),
    lossy_percent=100,
)
FLAPPING = Profile(
    name="flapping",
    is_steady=True,
    directed=_flapping,
    safety_ms=(5000, 6000),
    early_percent=0,
    lossy_percent=0,
)
JOINT = Profile(
    name="joint",
    directed=_joint,
    safety_ms=(5000, 6000),
    witnesses=(3,),
    early_percent=100,
    lossy_percent=0,
    is_busy=True,
)
SOLO = Profile(
    name="solo",
    directed=_solo,
    safety_ms=(6000, 8000),
    witnesses=(1,),
    early_percent=0,
    lossy_percent=0,
    is_busy=True,
)
PROMISES = Profile(
    name="promises",
    directed=_promises,
    safety_ms=(5000, 6000),
    witnesses=(3,),
    early_percent=0,
    lossy_percent=0,
    is_busy=True,
    delays_us=(300, 2000),
    fsyncs_us=(2000, 10_000),
)
DEPOSED = Profile(
    name="deposed",
    directed=_deposed,
    safety_ms=(4000, 5000),
    witnesses=(1,),
    delays_us=(300, 2000),
    early_percent=0,
    lossy_percent=0,
    is_busy=True,
)
TAILS = Profile(
    name="tails",
    directed=_tails,
    safety_ms=(4000, 5000),
    early_percent=0,
    lossy_percent=0,
    is_busy=True,
)
FORCED = Profile(
    name="forced",
    directed=_forced,
    gives_up=True,
    safety_ms=(4000, 5000),
    witnesses=(1, 3),
    early_percent=0,
    lossy_percent=0,
    is_busy=True,
)
TRANSFERS = Profile(name="transfers", directed=_transfers, safety_ms=(3000, 12_000))
BOUNDS = Profile(name="bounds", directed=_transfers, safety_ms=(3000, 8000))
STEPS = Profile(name="steps", directed=lambda _: [], safety_ms=(20_000, 20_000))
READMITTED = Profile(name="readmitted", directed=_transfers, safety_ms=(1000, 12_000))
RESTORED = Profile(name="restored", directed=lambda _: [], safety_ms=(2_000, 70_000))
# No machine is lost here: it may forget the youngest keys.
EXACTLY = Profile(
    name="exactly",
    weights={
        "crash": 20,
        "pause": 8,
        "slow": 4,
        "part": 10,
        "cut": 12,
        "isolate": 8,
        "clog": 5,
        "reset": 8,
        "fsync": 3,
        "full": 3,
        "switch": 6,
    },
    leaves_percent=0,
    lossy_percent=60,
)
PROFILES = {
    each.name: each
    for each in (
        FAILOVER,
        GROWTH,
        DISKS,
        COPIES,
        VOTERS,
        LOSSY,
        FLAPPING,
        JOINT,
        SOLO,
        PROMISES,
        DEPOSED,
        TAILS,
        FORCED,
        TRANSFERS,
        BOUNDS,
        STEPS,
        EXACTLY,
        RESTORED,
        READMITTED,
    )
}
