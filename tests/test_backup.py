"""Backups and restores of a log, without a node: what is in them, and what is refused."""

import asyncio
import re
import tarfile
from io import BytesIO
from pathlib import Path

import pytest
from msgspec import json, structs

from tests.support.lives import drafts
from vcap_es.adapters.storage.ballot_file import read_ballot
from vcap_es.backup import BackupPart, read_manifest, take
from vcap_es.errors import BackupUnusable, InvalidInput, LogDamaged
from vcap_es.events.clusters import founding_of, generation_of
from vcap_es.events.facts import (
    AmountWithheld,
    ClusterCreated,
    Definition,
    EpochStarted,
    Fact,
    IntervalOpened,
    MetaDefined,
    NodeAddressChanged,
    ToppedUp,
    Version,
)
from vcap_es.events.logs.sqlite import SqliteLog
from vcap_es.projections.states.data_centre import NUMBERS_PER_GENERATION, DataCentre
from vcap_es.projections.verification import Verification
from vcap_es.restore import restore

CLUSTER = "c1" * 16
FIRST = Version(0, 1)
FACTS: list[Fact] = [
    ClusterCreated(cluster=CLUSTER, dc="north", master="m0-a"),
    EpochStarted(epoch=2, leader="m0"),
    NodeAddressChanged(node="m0-a", name="m0", role="master", address="http://h:1", stamp=1),
    MetaDefined(cap="c", version=FIRST, definition=Definition(total=100)),
    IntervalOpened(
        cap="c", number=0, start=0, end=1, total=100, version=FIRST, timezone="UTC", tzdata=""
    ),
    ToppedUp(cap="c", number=0, incarnation="s", moved=40),
]
LATER: list[Fact] = [ToppedUp(cap="c", number=0, incarnation="s", moved=70)]


def written(directory: Path, facts: list[Fact]) -> None:
    """Let a master's directory have a log of these facts."""

    async def write() -> None:
        log = await SqliteLog.open(directory / "log.sqlite")
        known = (await log.head()).position
        await log.append(drafts(facts)[known:], 2)
        await log.close()

    asyncio.run(write())


def state_of(directory: Path) -> DataCentre:
    """What the log of a master gives, which is sound."""

    async def read() -> DataCentre:
        verification, reader = Verification(), await SqliteLog.open_reader(directory / "log.sqlite")
        verification.feed_links(await reader.read_stored())
        verification.feed_books(await reader.read())
        await reader.close()
        assert verification.flaws() == []
        return verification.state

    return asyncio.run(read())


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """The directory of a master that has stopped."""
    directory = tmp_path / "live"
    written(directory, FACTS)
    (directory / "admin.key").write_text("vcap_key\n")
    return directory


def test_what_is_restored_is_a_new_generation(live: Path, tmp_path: Path) -> None:
    """It has everything that was recorded, another name, and nobody of the one before."""
    # Given a backup, after which the log went on
    extra = tmp_path / "some.secret"
    extra.write_text("s" * 64)
    made = take(live, tmp_path / "b.tar", {"node.secret": extra})
    written(live, FACTS + LATER)
    # When it is restored, with what is left of the old one
    result = restore(tmp_path / "b.tar", tmp_path / "new", slot=0, old=[live])
    # Then it says what it is, and what it lacks
    assert (made.cluster, made.position, made.dc) == (CLUSTER, 6, "north")
    assert (founding_of(result.cluster), generation_of(result.cluster)) == (CLUSTER, 1)
    assert (result.lacks, result.intervals, result.withheld) == (1, 1, 60)
    # And all is there, with what may have been granted since withheld
    state = state_of(tmp_path / "new")
    pool = state.metas["c"].intervals[0].pool
    assert (pool.available, pool.withheld, pool.held) == (0, 60, 40)
    assert state.metas["c"].next_number == NUMBERS_PER_GENERATION
    assert (state.primacy.cluster, state.primacy.before) == (result.cluster, [CLUSTER])
    # And nobody of the old one is dialled, or votes
    assert state.nodes == {}
    ballot = read_ballot(tmp_path / "new" / "ballot")
    assert ballot.cluster == result.cluster
    assert ballot.config is not None
    assert ballot.config.voters == (ballot.node,)
    assert ballot.node != "m0-a"
    # And the secrets are as they were, for their owner alone
    for name, text in (("admin.key", "vcap_key\n"), ("node.secret", "s" * 64)):
        path = tmp_path / "new" / name
        assert (path.read_text(), path.stat().st_mode & 0o777) == (text, 0o600)


def test_a_restored_log_is_backed_up_and_restored_again(live: Path, tmp_path: Path) -> None:
    """Each restore is one more generation, and what was withheld stays so."""
    take(live, tmp_path / "first.tar", {})
    restore(tmp_path / "first.tar", tmp_path / "new", slot=0, old=[])
    again = take(tmp_path / "new", tmp_path / "second.tar", {})
    result = restore(tmp_path / "second.tar", tmp_path / "newer", slot=1, old=[])
    assert generation_of(again.cluster) == 1
    assert generation_of(result.cluster) == 2
    pool = state_of(tmp_path / "newer").metas["c"].intervals[0].pool
    assert (pool.available, pool.withheld, pool.held) == (0, 60, 40)


def test_a_backup_is_taken_while_the_log_is_written(live: Path, tmp_path: Path) -> None:
    """Another connection has it open to write; the copy is of one moment, and whole."""

    async def write_and_copy() -> int:
        log = await SqliteLog.open(live / "log.sqlite")
        try:
            await log.append(drafts(FACTS + LATER)[6:], 2)
            made = await asyncio.to_thread(take, live, tmp_path / "b.tar", {})
        finally:
            await log.close()
        return made.position

    assert asyncio.run(write_and_copy()) == 7
    assert (tmp_path / "b.tar").stat().st_mode & 0o777 == 0o600


def test_nothing_is_ever_replaced(live: Path, tmp_path: Path) -> None:
    """A backup that is there stays, and a directory with anything in it is not restored into."""
    backup = tmp_path / "b.tar"
    take(live, backup, {})
    before = backup.read_bytes()
    with pytest.raises(InvalidInput, match="is there already"):
        take(live, backup, {})
    assert backup.read_bytes() == before
    with pytest.raises(InvalidInput, match="not empty"):
        restore(backup, live, slot=0, old=[])
    assert state_of(live).primacy.cluster == CLUSTER


def test_a_journal_is_never_backed_up(tmp_path: Path) -> None:
    """A server's directory is refused with the reason, and one that is nobody's as well."""
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "frames").touch()
    with pytest.raises(InvalidInput, match="journal must never be restored"):
        take(tmp_path / "server", tmp_path / "b.tar", {})
    with pytest.raises(InvalidInput, match="directory of a master"):
        take(tmp_path, tmp_path / "b.tar", {})
    assert not (tmp_path / "b.tar").exists()


def test_a_damaged_log_is_not_backed_up(live: Path, tmp_path: Path) -> None:
    """A copy whose chain breaks is no backup: it says so, and leaves nothing."""
    path = live / "log.sqlite"
    path.write_bytes(path.read_bytes().replace(b"http://h:1", b"http://h:2"))
    with pytest.raises(LogDamaged, match="chain breaks at position 3"):
        take(live, tmp_path / "b.tar", {})
    assert sorted(each.name for each in tmp_path.iterdir()) == ["live"]


@pytest.mark.parametrize("kept", [0.2, 0.6, 0.95])
def test_a_backup_that_was_cut_off_is_refused(live: Path, tmp_path: Path, kept: float) -> None:
    """Nothing is made of it."""
    whole = tmp_path / "b.tar"
    take(live, whole, {})
    data = whole.read_bytes()
    end = data.rindex(b"vcap_key")  # what follows is filling
    cut = tmp_path / "cut.tar"
    cut.write_bytes(data[: int(end * kept)])
    with pytest.raises(BackupUnusable):
        restore(cut, tmp_path / "new", slot=0, old=[])
    assert not (tmp_path / "new").exists()


def test_a_backup_that_was_edited_is_refused(live: Path, tmp_path: Path) -> None:
    """A part that is not what the manifest says names itself."""
    whole = tmp_path / "b.tar"
    take(live, whole, {})
    whole.write_bytes(whole.read_bytes().replace(b"vcap_key", b"vcap_bad"))
    with pytest.raises(BackupUnusable, match=r"admin\.key is not what was backed up"):
        restore(whole, tmp_path / "new", slot=0, old=[])


def test_another_kind_of_file_is_no_backup(live: Path, tmp_path: Path) -> None:
    """A log, a text and a tar of other things are told apart from a backup."""
    (tmp_path / "text").write_text("hello")
    with tarfile.open(tmp_path / "other.tar", "w") as archive:
        archive.add(tmp_path / "text", "text")
    for path in (tmp_path / "text", tmp_path / "other.tar", live / "log.sqlite"):
        with pytest.raises(BackupUnusable):
            read_manifest(path)


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ([], "names no log.sqlite"),
        (["admin.key"], "names no log.sqlite"),
        (["log.sqlite", ""], "names a part '' (str), which is no plain name"),
        (["log.sqlite", "."], "names a part '.' (str), which is no plain name"),
        (["log.sqlite", ".."], "names a part '..' (str), which is no plain name"),
        (["log.sqlite", "../a"], "names a part '../a' (str), which is no plain name"),
        (["log.sqlite", "/a"], "names a part '/a' (str), which is no plain name"),
        (["log.sqlite", "a/"], "names a part 'a/' (str), which is no plain name"),
        (["log.sqlite", "a\0b"], "which is no plain name"),
        (["log.sqlite", "a" * 300], "which is no plain name"),
        (["log.sqlite", "log.sqlite"], "names the part log.sqlite twice"),
        (["log.sqlite", "a", "a"], "names the part a twice"),
        (["log.sqlite", "ballot"], "names a part ballot, which is never restored"),
        (["log.sqlite", "frames"], "names a part frames, which is never restored"),
    ],
)
def test_a_manifest_that_names_what_is_no_part_is_refused(
    live: Path, tmp_path: Path, names: list[str], why: str
) -> None:
    """Names become files of the directory that is made, each once; promises are never restored."""
    # Given a backup whose manifest was edited
    taken = take(live, tmp_path / "b.tar", {})
    parts = [BackupPart(name=each, bytes=0, sha256="") for each in names]
    manifest = json.encode(structs.replace(taken, parts=parts))
    with tarfile.open(tmp_path / "edited.tar", "w") as archive:
        member = tarfile.TarInfo("manifest.json")
        member.size = len(manifest)
        archive.addfile(member, BytesIO(manifest))
    # Then
    with pytest.raises(BackupUnusable, match=re.escape(why)):
        restore(tmp_path / "edited.tar", tmp_path / "new", slot=0, old=[])
    assert not (tmp_path / "new").exists()


def test_a_part_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """A link may name itself: nobody follows it."""
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        member = tarfile.TarInfo("manifest.json")
        member.type, member.linkname = tarfile.SYMTYPE, "manifest.json"
        archive.addfile(member)
    with pytest.raises(BackupUnusable, match=r"has no manifest\.json"):
        read_manifest(tmp_path / "b.tar")


def test_a_backup_that_is_not_there_is_told_with_what_to_do(live: Path, tmp_path: Path) -> None:
    """A missing file and a directory are mistakes of a person: each is told what to name."""
    for place, why in ((tmp_path / "missing.tar", "is not there"), (live, "is no file")):
        words = f"{place} {why}: name the file that `vcap backup` wrote"
        with pytest.raises(BackupUnusable, match=re.escape(words)):
            restore(place, tmp_path / "new", slot=0, old=[])
        assert not (tmp_path / "new").exists()


def test_the_wrong_remains_are_told(live: Path, tmp_path: Path) -> None:
    """What is missing is counted against the same log alone."""
    take(live, tmp_path / "b.tar", {})
    other = tmp_path / "other"
    written(other, [ClusterCreated(cluster="d2" * 16, dc="north", master="m0-b"), *FACTS[1:]])
    with pytest.raises(InvalidInput, match="is not the log that was backed up"):
        restore(tmp_path / "b.tar", tmp_path / "new", slot=0, old=[other])
    assert not (tmp_path / "new").exists()


def test_every_open_interval_is_withheld(live: Path, tmp_path: Path) -> None:
    """The facts after the restore say of each how much it was."""
    take(live, tmp_path / "b.tar", {})
    restore(tmp_path / "b.tar", tmp_path / "new", slot=0, old=[])

    async def withheld() -> list[Fact]:
        reader = await SqliteLog.open_reader(tmp_path / "new" / "log.sqlite")
        found = await reader.read(kind="AmountWithheld", cap="c")
        await reader.close()
        return [each.fact for each in found]

    assert asyncio.run(withheld()) == [AmountWithheld(cap="c", number=0, amount=60)]
