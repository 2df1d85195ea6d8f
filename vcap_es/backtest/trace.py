"""A trace: recorded traffic in a CSV file, read line by line, whatever its length.

    at,cap,amount
    2013-01-01T05:15:00-05:00,UA,1

The header is required; the columns come in any order, and `amount` may be left out: then it is 1.
"""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TextIO
from zlib import crc32

from vcap_es.errors import InvalidInput, VcapError
from vcap_es.events.amounts import MAX_AMOUNT, check_amount
from vcap_es.events.definitions import check_cap_id
from vcap_es.events.instants import parse_instant
from vcap_es.events.units import SECOND_US
from vcap_es.shown import shown

REQUIRED = ("at", "cap")
COLUMNS = (*REQUIRED, "amount")
PROGRESS_EVERY = 10_000
"""Lines between two words on how far the reading is."""

_CACHED_MINUTES = 4096
_AMOUNT_DIGITS_MAX = len(str(MAX_AMOUNT))


class Consumption(NamedTuple):
    """One line: `amount` units of `cap` were asked for at the instant `at` (microseconds UTC).

    `place` is a stable hash of the line, of 32 bits, by which it finds its server.
    """

    line: int
    at: int
    cap: str
    amount: int
    place: int


class Trace:
    """The trace in the file `path`; iterate it once. `on_progress` hears the share that is read.

    Raises InvalidInput, which names file, line and column, for whatever is not a trace, and where
    a line is earlier than the one before it.
    """

    def __init__(self, path: Path, on_progress: Callable[[float], None] = lambda _: None) -> None:
        self.path = path
        self._on_progress = on_progress
        self._minutes: dict[str, int] = {}
        self._known: set[str] = set()

    def __iter__(self) -> Iterator[Consumption]:
        """Every line after the header, in its order."""
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                yield from self._lines(file)
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"{self.path} cannot be read: {error}") from error

    def _lines(self, file: TextIO) -> Iterator[Consumption]:
        size = max(1, self.path.stat().st_size)
        reader = csv.reader(file, strict=True)
        # Rows are short: the loop below is the whole cost of reading, and stays in one frame.
        try:
            at_column, cap_column, amount_column, width = self._header(next(reader, []))
            last, last_text, at = 0, "", 0
            for number, row in enumerate(reader):
                if len(row) != width:
                    if not row:
                        continue  # an empty line, as at the end of many files
                    raise self._wrong(reader.line_num, f"has {len(row)} columns, not {width}")
                if row[at_column] != last_text:
                    last_text = row[at_column]
                    at = self._instant(last_text, reader.line_num)
                    if at < last:
                        raise self._wrong(
                            reader.line_num,
                            f"at: {last_text} is earlier than the line before: sort the file by at",
                        )
                    last = at
                cap = row[cap_column]
                if cap not in self._known:
                    self._check_cap(cap, reader.line_num)
                amount = 1
                if amount_column is not None and row[amount_column] != "1":
                    amount = self._amount(row[amount_column], reader.line_num)
                place = crc32(f"{last_text},{cap},{amount}".encode())
                yield Consumption(reader.line_num, at, cap, amount, place)
                if number % PROGRESS_EVERY == 0:
                    self._on_progress(min(1.0, file.buffer.tell() / size))
        except csv.Error as error:
            raise self._wrong(reader.line_num, f"is not CSV: {error}") from error

    def wrong(self, line: int, column: str, why: str) -> InvalidInput:
        """The error that names a column of a line of this file."""
        return self._wrong(line, f"{column}: {why}")

    def _wrong(self, line: int, why: str) -> InvalidInput:
        return InvalidInput(f"{self.path}, line {line}, {why}")

    def _header(self, row: list[str]) -> tuple[int, int, int | None, int]:
        """Where the columns are, and how many there are."""
        names = [name.strip() for name in row]
        for name in names:
            if name not in COLUMNS:
                raise self._wrong(1, f"column {shown(name)} is not known: {_expected()}")
            if names.count(name) > 1:
                raise self._wrong(1, f"column {name} is there twice: {_expected()}")
        for name in REQUIRED:
            if name not in names:
                raise self._wrong(1, f"column {name} is missing in the header: {_expected()}")
        amount = names.index("amount") if "amount" in names else None
        return names.index("at"), names.index("cap"), amount, len(names)

    def _instant(self, text: str, line: int) -> int:
        """The instant of a text. Minutes in UTC are remembered: only their seconds are read."""
        seconds = text[17:19]
        if len(text) == 20 and text[19] == "Z" and seconds.isdecimal() and text.isascii():
            minute = text[:17]
            start = self._minutes.get(minute)
            if start is not None and seconds < "60":
                return start + int(seconds) * SECOND_US
            at = self._parse(text, line)
            if len(self._minutes) >= _CACHED_MINUTES:
                self._minutes.clear()
            self._minutes[minute] = at - int(seconds) * SECOND_US
            return at
        return self._parse(text, line)

    def _parse(self, text: str, line: int) -> int:
        try:
            return parse_instant(text)
        except VcapError as error:
            raise self.wrong(line, "at", str(error)) from error

    def _check_cap(self, cap: str, line: int) -> None:
        try:
            self._known.add(check_cap_id(cap))
        except VcapError as error:
            raise self.wrong(line, "cap", str(error)) from error

    def _amount(self, text: str, line: int) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) <= _AMOUNT_DIGITS_MAX):
            why = f"{shown(text)} is not an amount: write an integer from 1 to {MAX_AMOUNT}"
            raise self.wrong(line, "amount", why)
        try:
            return check_amount(int(text))
        except VcapError as error:
            raise self.wrong(line, "amount", str(error)) from error


def _expected() -> str:
    return "begin the file with a line `at,cap,amount` (amount may be left out)"
