"""Backups: one file with all that a master needs to be the same deployment again.

A tar archive of `manifest.json` and the parts that it names, with their sizes and SHA-256: the log,
the first admin's key, the settings, and the secrets that they name. It has no ballot: promises are
never restored. And it has no journal of a server: spent units would come back.
"""

import asyncio
import os
import re
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp
from typing import IO

import msgspec
from msgspec import Struct, structs

from vcap_es import __version__
from vcap_es.adapters.storage.durable_files import sync_directory
from vcap_es.app import ADMIN_KEY_FILE, BALLOT_FILE, JOURNAL_FILE, LOG_FILE
from vcap_es.clock import now_us
from vcap_es.errors import BackupUnusable, InvalidInput
from vcap_es.events.chain import GENESIS, verify
from vcap_es.events.facts import ClusterCreated, LogRestored
from vcap_es.events.instants import format_instant
from vcap_es.events.logs.sqlite import SqliteLog
from vcap_es.events.logs.sqlite_copy import copy_log
from vcap_es.shown import shown

FORMAT = 1
MANIFEST_FILE = "manifest.json"
MANIFEST_BYTES_MAX = 1 << 20
"""A longer manifest is not read: it would name thousands of parts."""

PART_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
"""The name of a part: it becomes a file in the directory that is restored, and nowhere else."""

NEVER_RESTORED = (BALLOT_FILE, JOURNAL_FILE)

CHUNK_EVENTS, CHUNK_BYTES = 5000, 1 << 20


class BackupPart(Struct, frozen=True, kw_only=True):
    """A file of a backup: its name, its length, and its digest in hexadecimal."""

    name: str
    bytes: int
    sha256: str


class Manifest(Struct, frozen=True, kw_only=True):
    """What a backup is of, and what is in it.

    The log ends at `position` of `epoch`, with this `link`; `taken_at` is when it was copied.
    """

    format: int
    cluster: str
    dc: str
    position: int
    epoch: int
    link: str
    taken_at: str
    version: str
    parts: list[BackupPart]


def take(directory: Path, target: Path, extra: Mapping[str, Path]) -> Manifest:
    """Write a backup of the master in `directory` to `target`, also while it serves.

    `extra` are further files by their names in the backup. The copied log is verified before the
    file gets its name. Raises `InvalidInput` where there is no master's directory, or `target` is
    there already.
    """
    _check_is_master(directory)
    if target.exists():
        raise InvalidInput(f"{target} is there already: a backup replaces nothing, name another")
    target.parent.mkdir(parents=True, exist_ok=True)
    with _workshop(target) as workshop:
        log = workshop / LOG_FILE
        copy_log(directory / LOG_FILE, log)
        manifest = asyncio.run(_describe(log))
        files = {LOG_FILE: log}
        if (directory / ADMIN_KEY_FILE).exists():
            files[ADMIN_KEY_FILE] = directory / ADMIN_KEY_FILE
        files |= extra
        parts = [_part(name, path) for name, path in files.items()]
        manifest = structs.replace(manifest, parts=parts)
        packed = workshop / "packed"
        _pack(packed, manifest, files)
        try:
            os.link(packed, target)  # unlike a rename, this never replaces a file
        except FileExistsError:
            raise InvalidInput(f"{target} was made meanwhile: name another file") from None
    sync_directory(target.parent)
    return manifest


def _check_is_master(directory: Path) -> None:
    if (directory / LOG_FILE).exists():
        return
    if (directory / JOURNAL_FILE).exists():
        raise InvalidInput(
            f"{directory} is a server's: its journal must never be restored, or what was spent"
            " since would come back; a new server begins with an empty directory"
        )
    raise InvalidInput(f"{directory} has no {LOG_FILE}: name the directory of a master")


@contextmanager
def _workshop(target: Path) -> Iterator[Path]:
    """A private folder on the disk of `target`, which is gone afterwards."""
    folder = Path(mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _describe(log: Path) -> Manifest:
    """What the copy is of. Checks every link: a copy that is not whole is no backup."""
    reader, link, position, epoch = await SqliteLog.open_reader(log), GENESIS, 0, 0
    try:
        while chunk := await reader.read_stored(position, limit=CHUNK_EVENTS):
            link = verify(chunk, link)
            position, epoch = chunk[-1].position, chunk[-1].epoch
        founded = await reader.read(limit=1, kind="ClusterCreated")
        restored = await reader.read(limit=1_000_000, kind="LogRestored")
    finally:
        await reader.close()
    if not founded or not isinstance(founded[0].fact, ClusterCreated):
        raise InvalidInput(f"the log at position {position} is of no cluster: nothing was founded")
    cluster = founded[0].fact.cluster
    if restored and isinstance(restored[-1].fact, LogRestored):
        cluster = restored[-1].fact.cluster
    return Manifest(
        format=FORMAT,
        cluster=cluster,
        dc=founded[0].fact.dc,
        position=position,
        epoch=epoch,
        link=link.hex(),
        taken_at=format_instant(now_us()),
        version=__version__,
        parts=[],
    )


def _part(name: str, path: Path) -> BackupPart:
    with path.open("rb") as file:
        digest, size = _digest(file)
    return BackupPart(name=name, bytes=size, sha256=digest)


def _digest(file: IO[bytes]) -> tuple[str, int]:
    digest, size = sha256(), 0
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def _pack(target: Path, manifest: Manifest, files: Mapping[str, Path]) -> None:
    described = target.with_name(MANIFEST_FILE)
    described.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            for name, path in {MANIFEST_FILE: described, **files}.items():
                archive.add(path, name, recursive=False, filter=_anonymous)
        file.flush()
        os.fsync(file.fileno())


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Nobody's file, which only its owner may read."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o600
    return member


# ---- reading one


def read_manifest(backup: Path) -> Manifest:
    """What is in a backup. Raises `BackupUnusable` where it is none, or not there."""
    with _opened(backup) as archive:
        return _manifest(backup, archive)


def unpack(backup: Path, folder: Path) -> Manifest:
    """Write the parts of a backup into `folder`, each as it was; its manifest.

    Raises `BackupUnusable` where the backup or a part is missing, or is not what the manifest says.
    """
    with _opened(backup) as archive:
        manifest = _manifest(backup, archive)
        for part in manifest.parts:
            _unpack_part(backup, archive, part, folder)
    return manifest


@contextmanager
def _opened(backup: Path) -> Iterator[tarfile.TarFile]:
    if not backup.exists():
        raise BackupUnusable(f"{backup} is not there: name the file that `vcap backup` wrote")
    if not backup.is_file():
        raise BackupUnusable(f"{backup} is no file: name the file that `vcap backup` wrote")
    try:
        with tarfile.open(backup, mode="r:") as archive:
            yield archive
    except tarfile.TarError as error:
        raise BackupUnusable(f"{backup} is no backup: {error}") from error


def _manifest(backup: Path, archive: tarfile.TarFile) -> Manifest:
    data = _member(backup, archive, MANIFEST_FILE).read(MANIFEST_BYTES_MAX)
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError as error:
        raise BackupUnusable(f"{backup}: its manifest cannot be read: {error}") from error
    if manifest.format != FORMAT:
        raise BackupUnusable(
            f"{backup} has format {manifest.format}, this version knows {FORMAT}: upgrade vcap_es"
        )
    wrong = _wrong_names([part.name for part in manifest.parts])
    if wrong is not None:
        raise BackupUnusable(f"{backup}: its manifest {wrong}: restore another backup")
    return manifest


def _wrong_names(names: list[str]) -> str | None:
    """What is wrong with the parts that a manifest names."""
    if LOG_FILE not in names:
        return f"names no {LOG_FILE}"
    for name in names:
        if PART_NAME.fullmatch(name) is None:
            return f"names a part {shown(name)}, which is no plain name of a file"
        if name in NEVER_RESTORED:
            return f"names a part {name}, which is never restored"
        if names.count(name) > 1:
            return f"names the part {name} twice"
    return None


def _member(backup: Path, archive: tarfile.TarFile, name: str) -> IO[bytes]:
    try:
        member = archive.getmember(name)
    except KeyError:
        member = None
    # A link is followed by the library, for ever where it names itself.
    found = archive.extractfile(member) if member is not None and member.isreg() else None
    if found is None:
        raise BackupUnusable(f"{backup} has no {name}: it was cut off, or is no backup")
    return found


def _unpack_part(backup: Path, archive: tarfile.TarFile, part: BackupPart, folder: Path) -> None:
    source, target = _member(backup, archive, part.name), folder / part.name
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w+b") as file:
        shutil.copyfileobj(source, file, CHUNK_BYTES)
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        digest, size = _digest(file)
    if (digest, size) != (part.sha256, part.bytes):
        raise BackupUnusable(f"{backup}: its {part.name} is not what was backed up: it is damaged")
