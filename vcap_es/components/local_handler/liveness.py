"""Liveness: which volumecap servers were seen, and which are lost.

A server is lost when it has said nothing, or was not connected, for LOST_AFTER_US; it is alive
again when it comes back. This is for people to know: a server that is lost keeps what it holds.
"""

from collections.abc import Iterable

from msgspec import Struct

from vcap_es.components.timing_wheel import Alarm, TimingWheel
from vcap_es.events.units import SECOND_US

LOST_AFTER_US = 30 * SECOND_US
FORGOTTEN_AFTER_US = 7 * 24 * 3600 * SECOND_US
GONE_MAX = 10_000
"""With more servers gone than this, that which went first is forgotten first."""

PAUSE_US = 5 * SECOND_US
"""A master that was not told the time for so long did not listen either: it judges nobody by it."""


class Sighting(Struct):
    """A server as it was seen last; instants in microseconds UTC.

    It is connected since `connected_at`, or was then for the last time; None where this master
    knows only from its log that the server holds something. It spoke, or its connection ended, at
    `seen_at`. It is lost since `lost_at`; None while it is not.
    """

    incarnation: str
    name: str
    address: str
    connected_at: int | None
    seen_at: int
    lost_at: int | None = None


class Liveness:
    """All servers that were seen, each with one alarm: for its loss, or for its being forgotten."""

    def __init__(self, now: int) -> None:
        self.sightings: dict[str, Sighting] = {}
        self._wheel = TimingWheel()
        self._alarms: dict[str, Alarm] = {}
        self._gone: dict[str, None] = {}
        self._lost: list[str] = []
        self._told_at = self._listening_since = now

    # ---- what is seen

    def expect(self, sightings: Iterable[Sighting]) -> None:
        """These servers should be connected: they are lost if they do not come."""
        for each in sightings:
            self._see(each)
            self._leave(each.incarnation)

    def came(self, incarnation: str, name: str, address: str, now: int) -> None:
        """A server has connected."""
        self._gone.pop(incarnation, None)
        self._see(Sighting(incarnation, name, address, connected_at=now, seen_at=now))

    def spoke(self, incarnation: str, now: int) -> None:
        """A message has come from a connected server."""
        self.sightings[incarnation].seen_at = now

    def left(self, incarnation: str, now: int) -> None:
        """The connection of a server is gone."""
        sighting = self.sightings[incarnation]
        if sighting.lost_at is None:
            sighting.seen_at = now
        self._leave(incarnation)

    def _see(self, sighting: Sighting) -> None:
        self.sightings[sighting.incarnation] = sighting
        self._look(sighting.incarnation, sighting.seen_at + LOST_AFTER_US)

    def _leave(self, incarnation: str) -> None:
        self._gone[incarnation] = None
        if len(self._gone) > GONE_MAX:
            self._forget(next(iter(self._gone)))

    # ---- what time does

    def step(self, now: int) -> list[str]:
        """Time has passed: who is lost from now on."""
        if now - self._told_at > PAUSE_US:
            self._listening_since = now
        self._told_at = now
        self._wheel.ring(now * 1000)
        lost, self._lost = self._lost, []
        return lost

    def _look(self, incarnation: str, at: int) -> None:
        """Look at this server again at the instant `at`, and not when it was meant to be."""
        alarm = self._alarms.pop(incarnation, None)
        if alarm is not None:
            self._wheel.call_off(alarm)
        self._alarms[incarnation] = self._wheel.at(at * 1000, lambda _: self._judge(incarnation))

    def _judge(self, incarnation: str) -> None:
        sighting = self.sightings[incarnation]
        silent_since = max(sighting.seen_at, self._listening_since)
        if sighting.lost_at is not None:
            self._forget(incarnation)
        elif self._told_at < silent_since + LOST_AFTER_US:
            self._look(incarnation, silent_since + LOST_AFTER_US)
        else:
            sighting.lost_at = self._told_at
            self._lost.append(incarnation)
            self._look(incarnation, self._told_at + FORGOTTEN_AFTER_US)

    def _forget(self, incarnation: str) -> None:
        self._wheel.call_off(self._alarms.pop(incarnation))
        self._gone.pop(incarnation, None)
        del self.sightings[incarnation]
