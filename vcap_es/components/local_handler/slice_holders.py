"""Which servers hold units of which intervals."""

from collections.abc import Collection, Iterator

from vcap_es.projections.states.data_centre import DataCentre
from vcap_es.projections.states.interval import IntervalKey


class SliceHolders:
    """Who was ever given something of which interval, as long as that is not closed."""

    def __init__(self, state: DataCentre) -> None:
        self._keys: dict[str, dict[IntervalKey, None]] = {}
        self._incarnations: dict[IntervalKey, dict[str, None]] = {}
        for cap, meta in state.metas.items():
            for interval in meta.intervals:
                for incarnation in interval.pool.places:
                    self.add(incarnation, (cap, interval.number))

    def add(self, incarnation: str, key: IntervalKey) -> None:
        """This incarnation was given something of that interval."""
        self._keys.setdefault(incarnation, {})[key] = None
        self._incarnations.setdefault(key, {})[incarnation] = None

    def everybody(self) -> Iterator[tuple[str, Collection[IntervalKey]]]:
        """All incarnations that were given something, with the intervals that it was of."""
        yield from self._keys.items()

    def keys_of(self, incarnation: str) -> Collection[IntervalKey]:
        """The intervals that this incarnation was given something of."""
        return self._keys.get(incarnation, {})

    def close(self, key: IntervalKey) -> Collection[str]:
        """The interval is closed: who had something of it."""
        incarnations = self._incarnations.pop(key, {})
        for incarnation in incarnations:
            keys = self._keys[incarnation]
            keys.pop(key, None)
            if not keys:
                del self._keys[incarnation]
        return incarnations
