"""A timing wheel: what is to be done at an instant of a clock, unless it is called off.

The hierarchical wheel of G. Varghese and T. Lauck, "Hashed and Hierarchical Timing Wheels: Data
Structures for the Efficient Implementation of a Timer Facility", SOSP 1987, scheme 7. Time is cut
into ticks. The lowest level has a slot for each tick of its turn, the next one a slot for each
turn of the lowest, and so on, like the hands of a clock. An alarm waits in the lowest level whose
present turn has its tick; when time comes to a slot of a higher level, its alarms move down. So an
alarm costs the same however many there are, at most one move a level. A bit for each slot tells
where the next alarm is, so time that has nothing to do costs nothing.
"""

from collections.abc import Callable

Ring = Callable[[int], None]

TICK_BITS = 20
TICK_NS = 1 << TICK_BITS
"""A tick, about a millisecond: no alarm rings early, and none by more than this late."""

SLOT_BITS = 6
SLOTS = 1 << SLOT_BITS
"""The slots of a level; a turn of the level above takes as many times as long."""

STEPS_MAX = 256
"""Alarms that ring or move down in one call, at most: nobody else is kept waiting by more."""


class ListLink:
    """A member of a circle, between two others."""

    __slots__ = ("after", "before")

    after: "ListLink"
    before: "ListLink"


class Alarm(ListLink):
    """One thing to do at a tick; `ring` is None when it is done or called off."""

    __slots__ = ("ring", "tick")

    def __init__(self, tick: int, ring: Ring) -> None:
        self.tick = tick
        self.ring: Ring | None = ring


class WheelSlot(ListLink):
    """The alarms of one slot, in the order in which they were set: a circle that begins here."""

    __slots__ = ("bit", "level")

    def __init__(self, level: "WheelLevel", index: int) -> None:
        self.level, self.bit = level, 1 << index
        self.after = self.before = self

    def append(self, alarm: Alarm) -> None:
        """Let the alarm be the last one of this slot."""
        last = self.before
        alarm.before, alarm.after = last, self
        last.after = self.before = alarm
        self.level.occupied |= self.bit

    def pop(self) -> Alarm | None:
        """Take the first alarm out; None where there is none."""
        first = self.after
        if first is self:
            return None
        assert isinstance(first, Alarm)
        _unlink(first)
        return first


class WheelLevel:
    """The slots of one level. Bit i of `occupied` tells whether slot i has an alarm."""

    __slots__ = ("occupied", "shift", "slots")

    def __init__(self, number: int) -> None:
        self.shift = SLOT_BITS * number
        self.occupied = 0
        self.slots = [WheelSlot(self, index) for index in range(SLOTS)]

    def slot_of(self, tick: int) -> WheelSlot:
        """The slot that has this tick, in whichever turn."""
        return self.slots[tick >> self.shift & SLOTS - 1]

    def next_tick(self, now: int) -> int:
        """The tick at which the first slot begins that has an alarm, in the turn that has `now`.

        All alarms are in the present turn and none is before `now`, so that is the lowest bit.
        """
        index = (self.occupied & -self.occupied).bit_length() - 1
        turn = now >> self.shift + SLOT_BITS
        return (turn << SLOT_BITS | index) << self.shift


def _unlink(alarm: Alarm) -> None:
    before, after = alarm.before, alarm.after
    before.after, after.before = after, before
    del alarm.before, alarm.after  # so that nobody who keeps this alarm keeps the others
    if before is after:
        assert isinstance(before, WheelSlot), "only its slot is left when the last alarm goes"
        before.level.occupied &= ~before.bit


class TimingWheel:
    """All alarms on one clock of nanoseconds. Plain code: it is told the time and never waits.

    They ring in the order of their ticks, those of one tick in the order in which they were set.
    `slots_entered` and `alarms_moved` count the work that was done beside ringing.
    """

    def __init__(self) -> None:
        self.slots_entered = self.alarms_moved = 0
        self._now = 0  # the tick that time has come to; everything before it is done
        self._count = 0
        self._levels: list[WheelLevel] = []
        self._falling: WheelSlot | None = None

    def __len__(self) -> int:
        """How many alarms are set."""
        return self._count

    def at(self, at_ns: int, ring: Ring) -> Alarm:
        """Call `ring` with the time when the clock reaches `at_ns`, or soon where it has passed."""
        tick = max(-(-at_ns >> TICK_BITS), self._now)
        alarm = Alarm(tick, ring)
        self._slot_of(tick).append(alarm)
        self._count += 1
        return alarm

    def call_off(self, alarm: Alarm) -> None:
        """Let the alarm not ring, if it has not rung."""
        if alarm.ring is not None:
            alarm.ring = None
            self._count -= 1
            _unlink(alarm)

    def ring(self, now_ns: int) -> None:
        """Ring all that are due. After STEPS_MAX steps the rest is left to the next call."""
        until = max(now_ns >> TICK_BITS, self._now)
        left = STEPS_MAX
        while left > 0:
            slot = self._falling or self._enter(until)
            if slot is None:
                return
            if slot is self._falling:
                left = self._fall(slot, left)
            else:
                left = self._ring(slot, now_ns, left)

    @property
    def next_ns(self) -> int | None:
        """When `ring` is wanted next; None where no alarm is set.

        That is never after the first alarm is due. It is before where that one must move down
        first, so at most as often as there are levels.
        """
        if self._falling is not None:
            return self._now << TICK_BITS
        level = self._lowest()
        return None if level is None else level.next_tick(self._now) << TICK_BITS

    def _lowest(self) -> WheelLevel | None:
        """The lowest level with an alarm: whatever is there comes before what is above."""
        for level in self._levels:
            if level.occupied:
                return level
        return None

    def _slot_of(self, tick: int) -> WheelSlot:
        """Where an alarm waits: in the lowest level whose present turn has its tick.

        While a slot falls, who belongs there waits behind those that were set before.
        """
        falling, now = self._falling, self._now
        if falling is not None and tick >> falling.level.shift == now >> falling.level.shift:
            return falling
        return self._level_of(tick).slot_of(tick)

    def _level_of(self, tick: int) -> WheelLevel:
        number = ((tick ^ self._now | 1).bit_length() - 1) // SLOT_BITS
        while number >= len(self._levels):
            self._levels.append(WheelLevel(len(self._levels)))
        return self._levels[number]

    def _enter(self, until: int) -> WheelSlot | None:
        """Let time go on to the next slot with an alarm; None where it begins after `until`."""
        level = self._lowest()
        tick = until + 1 if level is None else level.next_tick(self._now)
        if level is None or tick > until:
            self._now = until
            return None
        self._now = tick
        self.slots_entered += 1
        slot = level.slot_of(tick)
        if level.shift:
            self._falling = slot
        return slot

    def _fall(self, slot: WheelSlot, left: int) -> int:
        """Let the alarms of a slot that time has come to move down; how many steps are left."""
        while left > 0:
            alarm = slot.pop()
            if alarm is None:
                self._falling = None
                break
            self._level_of(alarm.tick).slot_of(alarm.tick).append(alarm)
            self.alarms_moved += 1
            left -= 1
        return left

    def _ring(self, slot: WheelSlot, now_ns: int, left: int) -> int:
        """Ring the alarms of one tick; how many steps are left."""
        while left > 0:
            alarm = slot.pop()
            if alarm is None:
                break
            ring, alarm.ring = alarm.ring, None
            assert ring is not None, "who is called off is in no slot"
            self._count -= 1
            left -= 1
            ring(now_ns)
        return left
