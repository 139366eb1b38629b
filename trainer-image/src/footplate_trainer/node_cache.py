"""Cache of remote files on this node's disk, shared by all of its ranks.

Samples come in random order, so every step reads all shards: ranges
read on demand would be thousands of small requests, none of which a checksum
covers. Whole files are copied instead, before the first step, each verified as
it arrives, and memory-mapped like any other folder. So are the weights of a model, of
which each rank reads slices, and checkpoints on a server that supports no range requests.
Ranks of a node share the work: the rank that locks a file first copies it. A
copy is stored under a key of its content, and stays for the next run.

The cache is bounded. The least recently used copy that nobody uses is removed to
make space: users hold a lock that ends with their process.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from typing import Final

from footplate_contracts.names import Env
from footplate_trainer.errors import DataMissing
from footplate_trainer.storage import Storage, join

_log = logging.getLogger(__name__)

_IN_USE: Final = ".in-use"


class CacheError(OSError):
    """The cache has too little space, or cannot be written."""


class CopyDiffers(OSError):
    """The file at `place` arrived with another size, checksum or version (`what`) than expected."""

    def __init__(self, place: str, what: str, *, expected: str, found: str) -> None:
        super().__init__(f"{place}: {what} is {found}, should be {expected}")
        self.place = place
        self.what = what
        self.expected = expected
        self.found = found


@dataclass(frozen=True)
class RemoteFile:
    """A file to copy, with its expected size, checksum and stamp."""

    name: str  # without "/"
    bytes: int
    sha256: str | None = None
    stamp: str = ""  # see StoredObject; "" where it is not looked at


@dataclass(frozen=True)
class CacheSettings:
    """The cache's folder and its limit in bytes; None: the volume's free space."""

    folder: Path
    limit: int | None = None


def settings_from(environment: Mapping[str, str]) -> CacheSettings:
    """Return the cache settings in the environment; by default a folder for temporary files."""
    folder = environment.get(Env.DATA_CACHE) or f"{tempfile.gettempdir()}/footplate-data"
    limit = environment.get(Env.DATA_CACHE_BYTES, "")
    if limit and not limit.isdecimal():
        raise DataMissing.at(
            Env.DATA_CACHE_BYTES, f"is {limit!r}", "set a number of bytes, such as 200000000000"
        )
    return CacheSettings(Path(folder), int(limit) if limit else None)


class CachedCopy:
    """A local copy of files of one folder, in use as long as this object exists."""

    def __init__(self, folder: Path, lock: BufferedRandom) -> None:
        self.folder = folder
        self._lock = lock  # held by being open


def key_of(content: bytes) -> str:
    """Return the key of a copy that `content` identifies."""
    return hashlib.sha256(content).hexdigest()[:32]


def fetch(
    storage: Storage,
    key: str,
    files: Sequence[RemoteFile],
    settings: CacheSettings,
    rank: int = 0,
    known: Mapping[str, bytes] | None = None,
) -> CachedCopy:
    """Return a whole, verified copy of `files`, in the folder `key` of the cache, which may contain others.

    `known` are small files by name that the caller has read; they are written beside the others. All ranks of
    a node may call it at once; `rank` makes each begin with another file, and rank 0 log the copy. Raises
    CopyDiffers for a file that is not as expected, CacheError when this disk fails, and the errors of
    `storage`.
    """
    folder = settings.folder / key
    with _disk_errors(folder):
        settings.folder.mkdir(parents=True, exist_ok=True)
        # Who takes a copy into use and who removes one never meet: half of it would be gone by then.
        with _locked(settings.folder / ".room", wait=True):
            lock = _hold(folder)
            missing = _make_room(settings, folder, storage.uri, files)
        if missing and rank == 0:
            _log.info("copying %s bytes from %s to %s", f"{missing:,}", storage.uri, folder)
        start = rank % max(len(files), 1)
        waiting = [*files[start:], *files[:start]]
        # First what nobody else is at, then what others have not finished.
        for wait in (False, True):
            waiting = [record for record in waiting if not _ensure(storage, folder, record, wait=wait)]
        for name, content in (known or {}).items():
            _keep(folder / name, content)
    return CachedCopy(folder, lock)


def _keep(path: Path, content: bytes) -> None:
    """Write a small file that other ranks may be writing or reading at the same time."""
    if not path.is_file():
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        partial.write_bytes(content)
        partial.replace(path)


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Turn errors of the local disk into CacheError; errors of a storage or of the cache pass unchanged."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # only the system gives numbers
            raise
        raise CacheError(f"cannot write the cache {folder}: {error.strerror or error}") from None


def _ensure(storage: Storage, folder: Path, record: RemoteFile, *, wait: bool) -> bool:
    """Copy the file unless it is there; return False if another rank copies it and `wait` is False."""
    path = folder / record.name
    if _is_there(path, record):
        return True
    with _locked(folder / f".{record.name}.lock", wait=wait) as mine:
        if not mine:
            return False
        if not _is_there(path, record):
            _copy(storage, record, path)
    return True


def _copy(storage: Storage, record: RemoteFile, path: Path) -> None:
    partial = path.with_name(f".{path.name}.partial")
    storage.download(record.name, partial)
    try:
        _compare(storage, record, partial)
    except CopyDiffers:
        partial.unlink()
        raise
    partial.replace(path)


def _compare(storage: Storage, record: RemoteFile, path: Path) -> None:
    place = join(storage.uri, record.name)
    size = path.stat().st_size
    if size != record.bytes:
        raise CopyDiffers(place, "size", expected=f"{record.bytes} bytes", found=f"{size} bytes")
    if record.sha256 is not None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != record.sha256:
            raise CopyDiffers(place, "sha256", expected=record.sha256, found=found)
    if record.stamp and (stamp := storage.stat(record.name).stamp) != record.stamp:
        raise CopyDiffers(place, "version", expected=record.stamp, found=stamp)


def _make_room(settings: CacheSettings, folder: Path, uri: str, files: Sequence[RemoteFile]) -> int:
    """Remove unused copies, oldest first, until `files` of `uri` fit; return the number of bytes to copy.

    Raises CacheError if they do not fit even then.
    """
    missing = sum(record.bytes for record in files if not _is_there(folder / record.name, record))
    held = sum(_size(path) for path in folder.iterdir() if not path.name.startswith("."))
    others = sorted(
        (path for path in settings.folder.iterdir() if path.is_dir() and path != folder),
        key=lambda path: path.stat().st_mtime,
    )
    sizes = {path: sum(map(_size, path.iterdir())) for path in others}
    while True:
        free = shutil.disk_usage(settings.folder).free
        allowed = free if settings.limit is None else settings.limit - sum(sizes.values()) - held
        if missing <= min(free, allowed):
            return missing
        removed = next((path for path in others if path in sizes and _remove(path)), None)
        if removed is None:
            raise CacheError(_too_small(settings, uri, held + missing, free))
        del sizes[removed]


def _too_small(settings: CacheSettings, uri: str, needed: int, free: int) -> str:
    limit = "" if settings.limit is None else f"{Env.DATA_CACHE_BYTES} allows {settings.limit}, "
    return (
        f"the files of {uri} have {needed} bytes, and the cache {settings.folder} has no room for them "
        f"({limit}the volume has {free} free); set {Env.DATA_CACHE} to a larger volume, or mount the folder "
        "itself"
    )


def _remove(folder: Path) -> bool:
    """Remove a copy unless it is in use; return whether it was removed."""
    with _locked(folder / _IN_USE, wait=False) as unused:
        if not unused:
            return False
        shutil.rmtree(folder)
    _log.info("removed the copy %s to make room", folder)
    return True


def _hold(folder: Path) -> BufferedRandom:
    """Acquire a shared lock on a copy and mark it as the most recently used."""
    folder.mkdir(exist_ok=True)
    lock = (folder / _IN_USE).open("ab+")
    fcntl.flock(lock, fcntl.LOCK_SH)
    os.utime(folder)
    return lock


@contextmanager
def _locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Lock `path` and yield True, or yield False if another holds the lock and `wait` is False."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _is_there(path: Path, record: RemoteFile) -> bool:
    # It got this name when it had arrived as announced.
    return path.is_file() and path.stat().st_size == record.bytes


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # a rank has just given the file that it copied there its name
        return 0
