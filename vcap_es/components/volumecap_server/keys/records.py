"""What a key file has in it, entry by entry, and how a ledger is read from it and written anew.

A file explains itself: it says what its numbers for callers and intervals stand for before it uses
them, so it may end anywhere. A file is dropped whole, when the newest answer in it is too old.
"""

from collections.abc import Iterable, Iterator

from msgspec import Struct, msgpack

from vcap_es.components.volumecap_server.keys.ledger import KeyLedger, Segment, records_of


class FileBegun(Struct, frozen=True, array_like=True, tag=1, gc=False):
    """The file begins; no answer in it is newer than `until_ns`, on the clock of this boot.

    With `is_whole`, it has all that the files before it had.
    """

    boot: str
    until_ns: int
    is_whole: bool = False


class CallerNamed(Struct, frozen=True, array_like=True, tag=2, gc=False):
    """`caller` is called `index` in this file."""

    index: int
    caller: str


class IntervalNamed(Struct, frozen=True, array_like=True, tag=3, gc=False):
    """The interval `number` of `cap` is called `name` in the records of this file."""

    name: int
    cap: str
    number: int


class KeyAnswered(Struct, frozen=True, array_like=True, tag=4, gc=False):
    """A key of a caller was answered."""

    caller: int
    record: bytes


class Stretch(Struct, frozen=True, array_like=True, tag=5, gc=False):
    """Records of a caller, the newest of them from `newest_ns`; of a file that is written anew."""

    caller: int
    newest_ns: int
    records: bytes


class KeyFile(Struct):
    """A key file, and how many bytes it has about; no answer in it is newer than `until_ns`."""

    number: int
    until_ns: int
    size: int = 0


ENTRIES_PER_PIECE = 1000
PIECE_BYTES = 1 << 20

KeyEntry = FileBegun | CallerNamed | IntervalNamed | KeyAnswered | Stretch

encode_keys = msgpack.Encoder().encode
decode_keys = msgpack.Decoder(list[KeyEntry]).decode


def read_keys(entries: Iterable[KeyEntry], ledger: KeyLedger, *, boot: str, now_ns: int) -> None:
    """Take in what the key files say, one after the other, oldest first.

    The answers of another boot count as given now: nobody knows how long the machine was away.
    """
    callers: dict[int, str] = {}
    is_same_boot, newest_ns = False, now_ns
    for entry in entries:
        match entry:
            case KeyAnswered():  # nearly all
                ledger.add(callers[entry.caller], entry.record, newest_ns)
            case FileBegun():
                callers = {}
                if entry.is_whole:
                    ledger.clear()
                is_same_boot = entry.boot == boot
                newest_ns = min(entry.until_ns, now_ns) if is_same_boot else now_ns
            case CallerNamed():
                callers[entry.index] = entry.caller
            case IntervalNamed():
                ledger.named(entry.name, (entry.cap, entry.number))
            case Stretch():
                at_ns = entry.newest_ns if is_same_boot else now_ns
                ledger.go_on(callers[entry.caller], at_ns)
                for record in records_of(entry.records):
                    ledger.add(callers[entry.caller], record, at_ns)
    ledger.expire(now_ns)


def whole_ledger(ledger: KeyLedger, *, boot: str, now_ns: int) -> Iterator[list[KeyEntry]]:
    """All that `ledger` has, in a file of its own, some entries at a time.

    What there is, is taken note of at once. Where another thread reads on, no segment of it may
    change any more, so the ledger is to `close_all` before.
    """
    names = [IntervalNamed(name, *place) for name, place in ledger.names.items()]
    shares = [
        (share.index, share.caller, [each for each in share.segments if each.count])
        for share in ledger.shares.values()
    ]
    return _pieces(FileBegun(boot, now_ns, is_whole=True), names, shares)


def _pieces(
    begun: FileBegun,
    names: list[IntervalNamed],
    shares: list[tuple[int, str, list[Segment]]],
) -> Iterator[list[KeyEntry]]:
    yield [begun]
    for at in range(0, len(names), ENTRIES_PER_PIECE):
        yield [*names[at : at + ENTRIES_PER_PIECE]]
    for index, caller, segments in shares:
        yield [CallerNamed(index, caller)]
        for segment in segments:
            for records in segment.pieces(PIECE_BYTES):
                yield [Stretch(index, segment.newest_ns, records)]
