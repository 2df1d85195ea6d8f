"""Settings that all data centres have alike: templates, and placements with names of their own.

Each is a register: of two, the one with the larger stamp holds. Now and then all others hear a
digest of all of them; who has another one tells whatever it knows.
"""

from collections.abc import Iterator
from hashlib import blake2b
from itertools import islice

from msgspec import msgpack, structs

from vcap_es.components.circle import Circle
from vcap_es.components.transfer_messages import Inquiry, Setting, Settings
from vcap_es.events.facts import PlacementChanged, Stamp, TemplateLearned

SETTINGS_PER_MESSAGE = 50
TELL_ALL_US = 1_000_000
"""One data centre is told all of them no more often than this."""

AWAITED_MAX = 100_000
AWAIT_US, AWAITED_PER_STEP = 1_000_000, 200
"""Of so many caps at once, and so often each, it is asked whether they are defined by now."""


class SharedSettings:
    """What this data centre knows of them, and the caps that others define by their templates."""

    def __init__(self, circle: Circle) -> None:
        self._circle, self._state = circle, circle.state
        self._awaited: dict[str, tuple[str, int]] = {}
        self._all_told: dict[str, int] = {}

    # ---- registers

    def tell(self) -> None:
        """Let others see whether they know what is known here."""
        self._circle.tell_others(Settings(digest=self._digest()))

    def heard(self, centre: str, message: Settings) -> None:
        """Another data centre tells what it knows, and with a digest asks whether that is all."""
        for each in message.registers:
            if each.stamp > self._known(each):
                self._circle.record(each)
        now = self._circle.now
        is_due = now >= self._all_told.get(centre, 0) + TELL_ALL_US
        if is_due and message.digest and message.digest != self._digest():
            self._all_told[centre] = now
            registers = list(self._all())
            for at in range(0, len(registers), SETTINGS_PER_MESSAGE):
                part = registers[at : at + SETTINGS_PER_MESSAGE]
                self._circle.tell(centre, Settings(registers=part))
            self._circle.tell(centre, Settings(digest=self._digest()))

    def _all(self) -> Iterator[Setting]:
        """Every register that is known here, as others have to know it."""
        state = self._state
        for match, stamp in sorted(state.template_stamps.items()):
            definition = state.templates.get(match)
            yield TemplateLearned(match=match, definition=definition, stamp=self._named(stamp))
        for name, each in sorted(state.placements.items()):
            yield PlacementChanged(placement=name, terms=each.terms, stamp=each.stamp)

    def _digest(self) -> bytes:
        digest = blake2b(digest_size=16)
        for each in self._all():
            digest.update(msgpack.encode(each, order="deterministic"))
        return digest.digest()

    def _known(self, setting: Setting) -> Stamp:
        if isinstance(setting, TemplateLearned):
            return self._named(self._state.template_stamp(setting.match))
        known = self._state.placements.get(setting.placement)
        return known.stamp if known is not None else Stamp()

    def _named(self, stamp: Stamp) -> Stamp:
        is_own = stamp.count > 0 and not stamp.origin
        return structs.replace(stamp, origin=self._circle.dc) if is_own else stamp

    # ---- caps that others define

    def await_cap(self, cap: str, home: str) -> None:
        """Let the data centre `home` define a cap by its template, and tell of it."""
        self._awaited.pop(cap, None)
        while len(self._awaited) >= AWAITED_MAX:
            del self._awaited[next(iter(self._awaited))]
        self._ask(cap, home)

    def step(self) -> None:
        """Ask again for caps that are not known yet, those asked for longest ago first."""
        for cap, (home, due) in list(islice(self._awaited.items(), AWAITED_PER_STEP)):
            if self._circle.now < due:
                return
            del self._awaited[cap]
            if cap not in self._state.metas:
                self._ask(cap, home)

    def _ask(self, cap: str, home: str) -> None:
        self._awaited[cap] = home, self._circle.now + AWAIT_US
        self._circle.tell(home, Inquiry(cap=cap))
