"""Settings that all data centres have alike: templates, and placements with names of their own.

Each is a register: of two, the one with the larger stamp holds. Now and then all others hear a
digest of all of them; who has another one tells whatever it knows.
"""

from collections.abc import Callable, Iterator
from hashlib import blake2b
from itertools import islice

from msgspec import msgpack, structs

from vcap_es.components.decisions.placement import NO_PLACEMENT
from vcap_es.components.hybrid_clock import AHEAD_US
from vcap_es.components.messages.centre import Inquiry, Setting, SharedSettings
from vcap_es.components.remote_handler.awaited_caps import Awaited
from vcap_es.components.remote_handler.hearsay import doubt_setting
from vcap_es.components.remote_handler.membership import Membership
from vcap_es.events.facts import PlacementChanged, Stamp, TemplateLearned

SETTINGS_BYTES = 100_000
"""A message of settings is sent as soon as it has this many bytes."""

TELL_ALL_US = 1_000_000
"""One data centre is told all of them no more often than this."""

AWAITED_MAX, AWAITED_PER_STEP = 100_000, 200
AWAIT_US = (1_000_000, 60_000_000)
"""A cap that others define is asked for again after the first of these, then more and more rarely.

Nobody defines it after the first of these, when somebody may have defined it elsewhere.
"""


class SettingsSync:
    """What this data centre knows of them, and the caps that others define by their templates."""

    def __init__(self, membership: Membership, define: Callable[[str], bool]) -> None:
        """`define` caps by templates, here or elsewhere; True where nothing is to be awaited."""
        self._membership, self._state, self._define = membership, membership.state, define
        self._awaited: dict[str, Awaited] = {}
        self._all_told: dict[str, int] = {}

    # ---- registers

    def tell(self) -> None:
        """Let others see whether they know what is known here."""
        self._membership.tell_others(SharedSettings(digest=self._digest()))

    def heard(self, centre: str, message: SharedSettings) -> None:
        """Another data centre tells what it knows, and with a digest asks whether that is all."""
        for each in message.registers:
            is_news = _rank(each) > self._known(each)
            if is_news and self._membership.believes(centre, _name(each), doubt_setting(each)):
                self._membership.record(each)
        now = self._membership.now
        is_due = now >= self._all_told.get(centre, 0) + TELL_ALL_US
        if is_due and message.digest and message.digest != self._digest():
            self._all_told[centre] = now
            self._tell_all(centre)

    def _tell_all(self, centre: str) -> None:
        part, size = list[Setting](), 0
        for each in self._all():
            part.append(each)
            size += len(msgpack.encode(each))
            if size > SETTINGS_BYTES:
                self._membership.tell(centre, SharedSettings(registers=part))
                part, size = [], 0
        self._membership.tell(centre, SharedSettings(registers=part, digest=self._digest()))

    def _all(self) -> Iterator[Setting]:
        """Every register that is known here, as others have to know it."""
        state = self._state
        for match in sorted(state.template_stamps):
            yield self._template(match)
        for name in sorted(state.placements):
            yield self._placement(name)

    def _digest(self) -> bytes:
        digest = blake2b(digest_size=16)
        for each in self._all():
            digest.update(_content(each))
        return digest.digest()

    def _known(self, setting: Setting) -> tuple[Stamp, bytes]:
        """What is known of the same thing here."""
        if isinstance(setting, TemplateLearned):
            return _rank(self._template(setting.match))
        return _rank(self._placement(setting.placement))

    def _template(self, match: str) -> TemplateLearned:
        stamp, definition = self._state.template_stamp(match), self._state.templates.get(match)
        if stamp.count and not stamp.origin:
            stamp = structs.replace(stamp, origin=self._membership.dc)
        return TemplateLearned(match=match, definition=definition, stamp=stamp)

    def _placement(self, name: str) -> PlacementChanged:
        known = self._state.placements.get(name, NO_PLACEMENT)
        return PlacementChanged(placement=name, terms=known.terms, stamp=known.stamp)

    # ---- caps that others define

    def await_cap(self, cap: str, home: str) -> None:
        """Let the data centre `home` define a cap by its template, and tell of it."""
        now, awaited = self._membership.now, self._awaited.get(cap)
        if awaited is not None and now < awaited.due:
            return
        wait = AWAIT_US[0] if awaited is None else min(2 * awaited.wait, AWAIT_US[1])
        self._awaited[cap] = Awaited(wait, now + wait)
        while len(self._awaited) > AWAITED_MAX:
            del self._awaited[next(iter(self._awaited))]
        if home in self._membership.others:
            self._membership.tell(home, Inquiry(cap=cap, until=now + AWAIT_US[0] + AHEAD_US))

    def step(self) -> None:
        """Ask again for some of the caps that are not known yet, round and round."""
        for cap in list(islice(self._awaited, AWAITED_PER_STEP)):
            awaited = self._awaited[cap] = self._awaited.pop(cap)
            is_due = self._membership.now >= awaited.due
            if cap in self._state.metas or (is_due and self._define(cap)):
                del self._awaited[cap]


def _name(setting: Setting) -> str:
    return setting.match if isinstance(setting, TemplateLearned) else setting.placement


def _content(setting: Setting) -> bytes:
    return msgpack.encode(setting, order="deterministic")


def _rank(setting: Setting) -> tuple[Stamp, bytes]:
    """Which of two holds; a log that lost events may have given one stamp twice."""
    return setting.stamp, _content(setting)
