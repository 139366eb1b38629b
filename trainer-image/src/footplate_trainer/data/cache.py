"""Shards of an object store, on this node's disk, once for all of its ranks.

Samples come in random order, so every step touches shards everywhere: ranges
read on demand would be thousands of small requests, none of which a checksum
covers. Whole files are copied instead, before the first step, each verified as
it arrives, and mapped like any other folder. Ranks of a node share the work: a
file is copied by whoever locks it first. A copy lies under the digest of its
manifest, and stays for the next run.

The cache is bounded. What must make room is the copy that was used longest ago
and is in use by nobody: users hold a lock that ends with their process.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from typing import Final

from footplate_contracts.names import Env
from footplate_trainer.data.check import check_sum, unreadable
from footplate_trainer.data.layout import MANIFEST_FILE, DataFile, ShardManifest
from footplate_trainer.errors import DataCorrupt, DataError, DataMissing
from footplate_trainer.storage import Storage, join

_log = logging.getLogger(__name__)

_IN_USE: Final = ".in-use"


@dataclass(frozen=True)
class CacheSettings:
    """Where copies lie, and how many bytes they may take; None: what the volume has."""

    folder: Path
    limit: int | None = None


def settings_from(environment: Mapping[str, str]) -> CacheSettings:
    """The cache that the environment names; by default a folder for temporary files."""
    folder = environment.get(Env.DATA_CACHE) or f"{tempfile.gettempdir()}/footplate-data"
    limit = environment.get(Env.DATA_CACHE_BYTES, "")
    if limit and not limit.isdecimal():
        raise DataMissing.at(
            Env.DATA_CACHE_BYTES, f"is {limit!r}", "give a number of bytes, such as 200000000000"
        )
    return CacheSettings(Path(folder), int(limit) if limit else None)


class CachedCopy:
    """A local copy of one folder of shards, in use until this process ends."""

    def __init__(self, folder: Path, lock: BufferedRandom) -> None:
        self.folder = folder
        self._lock = lock  # held by being open


def fetch(
    storage: Storage, text: bytes, manifest: ShardManifest, settings: CacheSettings, rank: int = 0
) -> CachedCopy:
    """A whole and verified copy of what `manifest` names; `text` is the manifest as it stands there.

    May be called by all ranks of a node at once; `rank` lets each begin
    elsewhere. Raises DataCorrupt for a file that arrives other than it was
    packed, DataError when the store or the disk fails.
    """
    folder = settings.folder / hashlib.sha256(text).hexdigest()[:32]
    try:
        settings.folder.mkdir(parents=True, exist_ok=True)
        files = manifest.files()
        # Who takes a copy into use and who removes one never meet: half of it would be gone by then.
        with _locked(settings.folder / ".room", wait=True):
            lock = _hold(folder)
            missing = _make_room(settings, folder, files)
        if missing and rank == 0:
            _log.info("copying %s bytes of shards from %s to %s", f"{missing:,}", storage.uri, folder)
        start = rank % len(files)
        waiting = files[start:] + files[:start]
        # First what nobody else is at, then what others have not finished.
        for wait in (False, True):
            waiting = [record for record in waiting if not _ensure(storage, folder, record, wait=wait)]
        (folder / MANIFEST_FILE).write_bytes(text)
    except OSError as error:
        raise DataError(f"the cache {folder} cannot be written: {error.strerror or error}") from None
    return CachedCopy(folder, lock)


def _ensure(storage: Storage, folder: Path, record: DataFile, *, wait: bool) -> bool:
    """Whether the file is there, by our hand or another's; False if another is at it and we do not wait."""
    path = folder / record.file
    if _is_there(path, record):
        return True
    with _locked(folder / f".{record.file}.lock", wait=wait) as mine:
        if not mine:
            return False
        if not _is_there(path, record):
            _copy(storage, record, path)
    return True


def _copy(storage: Storage, record: DataFile, path: Path) -> None:
    partial = path.with_name(f".{path.name}.partial")
    place = join(storage.uri, record.file)
    try:
        storage.download(record.file, partial)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise unreadable(place, error) from None
    try:
        check_sum(partial, record, place)
    except DataCorrupt:
        partial.unlink()
        raise
    partial.replace(path)


def _make_room(settings: CacheSettings, folder: Path, files: Sequence[DataFile]) -> int:
    """Remove unused copies, oldest first, until `files` fit; the bytes still to copy.

    DataError if they never will fit.
    """
    needed = sum(record.bytes for record in files)
    missing = sum(record.bytes for record in files if not _is_there(folder / record.file, record))
    others = sorted(
        (path for path in settings.folder.iterdir() if path.is_dir() and path != folder),
        key=lambda path: path.stat().st_mtime,
    )
    sizes = {path: sum(map(_size, path.iterdir())) for path in others}
    while True:
        free = shutil.disk_usage(settings.folder).free
        allowed = free if settings.limit is None else settings.limit - sum(sizes.values()) - needed + missing
        if missing <= min(free, allowed):
            return missing
        removed = next((path for path in others if path in sizes and _remove(path)), None)
        if removed is None:
            raise DataError(_too_small(settings, needed, free))
        del sizes[removed]


def _too_small(settings: CacheSettings, needed: int, free: int) -> str:
    limit = "" if settings.limit is None else f"{Env.DATA_CACHE_BYTES} allows {settings.limit}, "
    return (
        f"the shards have {needed} bytes, and their cache {settings.folder} has no room for them ({limit}the "
        f"volume has {free} free); name a larger volume in {Env.DATA_CACHE}, or mount the data itself"
    )


def _remove(folder: Path) -> bool:
    """Remove a copy, unless somebody uses it."""
    with _locked(folder / _IN_USE, wait=False) as unused:
        if not unused:
            return False
        shutil.rmtree(folder)
    _log.info("removed the copy %s to make room", folder)
    return True


def _hold(folder: Path) -> BufferedRandom:
    """A shared lock on a copy, which is now the one used last."""
    folder.mkdir(exist_ok=True)
    lock = (folder / _IN_USE).open("ab+")
    fcntl.flock(lock, fcntl.LOCK_SH)
    os.utime(folder)
    return lock


@contextmanager
def _locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Yields whether `path` is locked by us now; always, if we wait."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _is_there(path: Path, record: DataFile) -> bool:
    # It got this name when its checksum was right.
    return path.is_file() and path.stat().st_size == record.bytes


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # a rank has just given the file that it copied there its name
        return 0
