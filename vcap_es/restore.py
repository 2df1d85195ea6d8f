"""Restoring a backup: a new generation of its deployment, in a fresh directory.

What the generation before recorded after the backup is not in it, so nothing that it may have
granted is granted again: it is withheld until it is told of, or its loss is accepted.
"""

import asyncio
import shutil
from collections.abc import Iterable
from pathlib import Path
from secrets import token_bytes, token_hex
from tempfile import mkdtemp

from msgspec import Struct, structs

from vcap_es.adapters.storage.ballot_file import BallotFile, read_ballot
from vcap_es.adapters.storage.durable_files import sync_directory
from vcap_es.app import BALLOT_FILE, LOG_FILE
from vcap_es.backup import Manifest, read_manifest, unpack
from vcap_es.clock import now_us
from vcap_es.components.consensus.voter import founded
from vcap_es.components.decisions.primacy import master_id
from vcap_es.components.decisions.restore import restored
from vcap_es.errors import BackupUnusable, InvalidInput
from vcap_es.events.clusters import RESTORED_BYTES
from vcap_es.events.clusters import restored as restored_cluster
from vcap_es.events.envelope import Draft
from vcap_es.events.facts import Fact
from vcap_es.events.log import Head
from vcap_es.events.logs.sqlite import SqliteLog
from vcap_es.projections.states.data_centre import DataCentre
from vcap_es.projections.verification import Verification

ACTOR = "restore"
CHUNK_EVENTS = 1000


class Restored(Struct, frozen=True, kw_only=True):
    """What was restored: the new generation `cluster`, from the backup `of`.

    `lacks` events of the generation before are known to be missing, None where nobody could tell.
    `withheld` units of `intervals` intervals may have been served by it.
    """

    cluster: str
    of: Manifest
    node: str
    lacks: int | None
    intervals: int
    withheld: int


def restore(backup: Path, directory: Path, *, slot: int, old: Iterable[Path]) -> Restored:
    """Make `directory`, from which a master leads a new generation of what `backup` is of.

    `old` are directories of nodes of the generation before, or other backups of it: they tell how
    much is missing. Raises `InvalidInput` where `directory` has anything in it, `BackupUnusable`
    where the backup is not sound.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InvalidInput(f"{directory} is not empty: a restore makes a directory of its own")
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = Path(mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        manifest = unpack(backup, folder)
        reached = [_reached(each, manifest) for each in old]
        lacks = max(reached) - manifest.position if reached else None
        lacks = None if lacks is None else max(0, lacks)
        result = asyncio.run(_begin(folder, manifest, slot, lacks))
        sync_directory(folder)
        folder.rename(directory)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    sync_directory(directory.parent)
    return result


async def _begin(folder: Path, manifest: Manifest, slot: int, lacks: int | None) -> Restored:
    """Verify the log in `folder`, and let it go on as a new generation with one voter."""
    log = await SqliteLog.open(folder / LOG_FILE)
    try:
        state, recorded_at = await _verified(log, manifest)
        cluster = restored_cluster(state.primacy.cluster, token_bytes(RESTORED_BYTES))
        node = _found(folder / BALLOT_FILE, slot, cluster, manifest.epoch)
        facts = restored(
            state,
            cluster=cluster,
            master=node,
            position=manifest.position,
            now=max(now_us(), recorded_at),
            lacks=lacks,
        )
        await _append(log, facts, manifest, max(now_us(), recorded_at))
    finally:
        await log.close()
    pools = [each.pool for meta in state.metas.values() for each in meta.intervals]
    return Restored(
        cluster=cluster,
        of=manifest,
        node=node,
        lacks=lacks,
        intervals=len(pools),
        withheld=sum(max(0, each.available + each.withheld) for each in pools),
    )


async def _verified(log: SqliteLog, manifest: Manifest) -> tuple[DataCentre, int]:
    """The state that the log gives, and its last stamp; every link and equation is checked."""
    verification, after, recorded_at = Verification(), 0, 0
    while stored := await log.read_stored(after, limit=CHUNK_EVENTS):
        verification.feed_links(stored)
        verification.feed_books(await log.read(after, limit=len(stored)))
        after, recorded_at = stored[-1].position, stored[-1].recorded_at
    flaws = verification.flaws()
    if flaws:
        first = flaws[0]
        raise BackupUnusable(
            f"the log in the backup is not sound: {len(flaws)} findings, the first at position"
            f" {first.position}: {first.rule}: {first.detail}"
        )
    found = Head(position=verification.position, epoch=manifest.epoch, link=verification.link)
    wanted = (manifest.position, manifest.link, manifest.cluster)
    if (found.position, found.link.hex(), verification.state.primacy.cluster) != wanted:
        raise BackupUnusable("the log in the backup is not the one that its manifest speaks of")
    return verification.state, recorded_at


def _found(path: Path, slot: int, cluster: str, epoch: int) -> str:
    """A ballot of a new node, which alone votes: whatever was promised is the old one's."""
    ballots = BallotFile.open(path, lambda: master_id(slot, token_hex(16)))
    try:
        ballots.keep(structs.replace(founded(ballots.ballot, cluster), promised=epoch))
        return ballots.ballot.node
    finally:
        ballots.close()


async def _append(log: SqliteLog, facts: list[Fact], manifest: Manifest, now: int) -> None:
    correlation = f"restore-{token_hex(8)}"
    for begin in range(0, len(facts), CHUNK_EVENTS):
        drafts = [
            Draft(
                event_id=token_bytes(16),
                recorded_at=now,
                dc=manifest.dc,
                actor=ACTOR,
                correlation=correlation,
                fact=fact,
            )
            for fact in facts[begin : begin + CHUNK_EVENTS]
        ]
        await log.append(drafts, manifest.epoch)


# ---- what the generation before had


def _reached(place: Path, manifest: Manifest) -> int:
    """The highest position that a node's directory or another backup tells of, of the same log."""
    if place.is_file():
        other = read_manifest(place)
        if other.cluster != manifest.cluster:
            raise InvalidInput(f"{place} is of {other.cluster}, the backup of {manifest.cluster}")
        return other.position
    log, ballot = place / LOG_FILE, place / BALLOT_FILE
    if not log.exists() and not ballot.exists():
        raise InvalidInput(f"{place} is no directory of a master or a witness, and no backup")
    committed = read_ballot(ballot).committed if ballot.exists() else 0
    return max(committed, asyncio.run(_end_of(log, manifest)) if log.exists() else 0)


async def _end_of(log: Path, manifest: Manifest) -> int:
    reader = await SqliteLog.open_reader(log)
    try:
        end = (await reader.head()).position
        same = await reader.read_stored(manifest.position - 1, limit=1)
    finally:
        await reader.close()
    if same and same[0].link.hex() != manifest.link:
        raise InvalidInput(f"{log} is not the log that was backed up: position {same[0].position}")
    return end
