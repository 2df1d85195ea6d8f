"""Several answers under way at once, each a step at a time; whoever has cost least goes first.

So a question that takes little is answered at once, however many others read all of the log. An
answer is read only as far as its parts are wanted: no more than one of them is ever in memory.
"""

from collections.abc import Callable, Mapping

import structlog
from msgspec import Struct

from vcap_es.adapters.past.answers import Answer, Lookup, Sheet, answer
from vcap_es.adapters.past.archive import Archive
from vcap_es.adapters.past.messages import (
    FromReader,
    Leave,
    More,
    NamesTold,
    ReadingPart,
    ReadingRefused,
    ReadingRequest,
    ToReader,
    Wanted,
)
from vcap_es.errors import InvalidInput, LogError, RequestRefused

LEFT = "left"

log = structlog.get_logger()


class _Reading(Struct):
    answer: Answer
    wanted: int = 1
    cost_ns: int = 0
    told_ns: int = 0
    told: Mapping[str, str] | None = None
    is_waiting: bool = False

    def cost_us(self) -> int:
        """What it has cost since this was asked last."""
        since, self.told_ns = self.cost_ns - self.told_ns, self.cost_ns
        return since // 1000


class Readings:
    """All answers under way."""

    def __init__(
        self, archive: Archive, send: Callable[[FromReader], None], cost_ns: Callable[[], int]
    ) -> None:
        """Answer from `archive`; `cost_ns` is the CPU time that this process has taken."""
        self._archive, self._send, self._cost_ns = archive, send, cost_ns
        self._readings: dict[int, _Reading] = {}
        self.until = 0
        """Up to here the log is committed, as far as whoever asked has said."""

    def hear(self, message: ToReader) -> None:
        """Somebody asks, wants more, or leaves. What is said of an answer that is over is late."""
        match message:
            case ReadingRequest(number, question, until):
                self.until = max(self.until, until)
                self._readings[number] = _Reading(answer(self._archive, question, until))
            case More(number) if number in self._readings:
                self._readings[number].wanted += 1
            case NamesTold(number, values) if number in self._readings:
                reading = self._readings[number]
                reading.told, reading.is_waiting = values, False
            case Leave(number) if number in self._readings:
                self._end(number, LEFT, "nobody waits for the answer any more")
            case _:
                pass

    def step(self) -> bool:
        """Take one step of one answer; gives whether there was one to take."""
        runnable = [
            (each.cost_ns, number)
            for number, each in self._readings.items()
            if each.wanted > 0 and not each.is_waiting
        ]
        if not runnable:
            return False
        _, number = min(runnable)
        self._step(number, self._readings[number])
        return True

    def _step(self, number: int, reading: _Reading) -> None:
        began = self._cost_ns()
        try:
            told, reading.told = reading.told, None
            given = next(reading.answer) if told is None else reading.answer.send(told)
            reading.cost_ns += self._cost_ns() - began
            self._give(number, reading, given)
        except RequestRefused as refused:
            self._end(number, refused.code, str(refused), refused.cap)
        except InvalidInput as error:
            self._end(number, "invalid", str(error))
        except LogError as error:
            self._end(number, "unavailable", str(error))
        except Exception as error:
            # A log that is damaged may break any rule: whoever verifies it is told which.
            log.exception("an answer about the past failed", error=repr(error))
            detail = "this part of the log cannot be read: verify the log"
            self._end(number, "internal_error", detail)

    def _give(self, number: int, reading: _Reading, given: Sheet | Lookup | None) -> None:
        match given:
            case Sheet(body, is_last, behind):
                reading.wanted -= 1
                self._send(ReadingPart(number, body, is_last, behind, reading.cost_us()))
                if is_last:
                    reading.answer.close()
                    del self._readings[number]
            case Lookup(what, names):
                reading.is_waiting = True
                self._send(Wanted(number, what, names))

    def _end(self, number: int, code: str, detail: str, cap: str | None = None) -> None:
        reading = self._readings.pop(number)
        reading.answer.close()
        self._send(ReadingRefused(number, code, detail, cap, reading.cost_us()))
