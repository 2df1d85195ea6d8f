"""A life in which masters die at every step of a transfer, and nothing else is bad."""

from vcap_es.sim.lives.crash_points import CrashingCentres
from vcap_es.sim.lives.multi_centre import SharedLife
from vcap_es.sim.world.centres import MailConditions


class SteppedLife(SharedLife):
    """The lives of the profile `steps`."""

    _kind = CrashingCentres
    centres: CrashingCentres

    def _begin(self) -> None:
        super()._begin()
        self.centres.post = MailConditions()
        self.centres.arm(self._random, self.happened)

    def _heal(self) -> None:
        self.centres.disarm()
        super()._heal()
