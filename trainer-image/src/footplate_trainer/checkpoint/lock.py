"""Lock that permits one training process at a time in a checkpoint folder, for runs without an operator.

A process that trains without a cluster creates a numbered lock file exclusively in the folder, with its
identity. While it trains it rewrites the file every few seconds: machines whose processes and clocks cannot
be compared may share the folder. A lock is stale when its process has ended, if that can be determined, or
when it has not been rewritten for a while by the reader's own clock; then the reader creates the next number,
which only one of several readers can do. The highest number owns the folder.
"""

from __future__ import annotations

import json
import logging
import os
import random
import re
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from footplate_contracts.names import ExitCode
from footplate_trainer.checkpoint.folder import Folder, open_folder
from footplate_trainer.checkpoint.store import storage_errors
from footplate_trainer.errors import UserMistake

_TRIES: Final = 20  # of several who meet again and again, each time one less remains
_NAME: Final = re.compile(r"\.lock-(\d+)")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LockIntervals:
    """Intervals of the lock, in seconds."""

    beat: float = 5.0
    stale: float = 20.0  # without a beat
    look: float = 0.5


@dataclass(frozen=True)
class LockHolder:
    """Identity of a process, as written in its lock."""

    host: str
    pid: int
    processes: str  # boot and pid namespace in which `pid` has a meaning
    began: str  # start of the process there: pids are used again
    key: str  # of this lock, never used twice
    beat: int = 0

    @classmethod
    def this_process(cls) -> LockHolder:
        """Return the identity of this process."""
        return cls(socket.gethostname(), os.getpid(), _processes(), _began(os.getpid()), uuid.uuid4().hex)

    @property
    def has_ended(self) -> bool:
        """True if the process is known to have ended; False also where this process cannot determine it."""
        return bool(self.processes) and self.processes == _processes() and _began(self.pid) != self.began

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@contextmanager
def lock_folder(uri: str, intervals: LockIntervals = LockIntervals()) -> Iterator[None]:
    """Lock the checkpoint folder `uri` for the block.

    Raises UserMistake while another training has the lock, StorageError where the folder cannot be used.
    """
    try:
        folder = open_folder(uri)
    except ValueError as error:
        raise UserMistake(f"checkpoint.uri: {error}") from error
    with storage_errors(f"checkpoint folder {uri}"):
        folder.prepare()
        mine = LockHolder.this_process()
        name = _acquire(folder, uri, mine, intervals)
    done = threading.Event()
    keeper = threading.Thread(
        target=_keep, args=(folder, name, mine, intervals, done), name="folder-lock", daemon=True
    )
    keeper.start()
    try:
        yield
    finally:
        done.set()
        keeper.join()
        with suppress(OSError):
            folder.delete(name)


def _acquire(folder: Folder, uri: str, mine: LockHolder, intervals: LockIntervals) -> str:
    """Acquire the lock and return its file name."""
    for _ in range(_TRIES):
        locks = _locks(folder)
        for name in locks:
            if (holder := _living(folder, name, intervals)) is not None:
                raise UserMistake(
                    f"checkpoint.uri {uri} is in use: {holder} trains there; wait until it ends, or set "
                    "another checkpoint.uri"
                )
        name = f".lock-{_number(locks[-1]) + 1 if locks else 1}"
        if not folder.create(name, _signed(mine)) and not _is_ours(folder, name, mine):
            continue
        # Somebody may have begun while we looked: then neither has it, and both look again.
        if set(_locks(folder)) <= {*locks, name}:
            for stale in locks:
                _log.warning("taking over the lock of a training that has ended: %s", stale)
                folder.delete(stale)
            return name
        folder.delete(name)
        time.sleep(intervals.look * random.random())
    raise UserMistake(f"checkpoint.uri {uri}: others train there, too; set another checkpoint.uri for each")


def _keep(
    folder: Folder, name: str, mine: LockHolder, intervals: LockIntervals, done: threading.Event
) -> None:
    """Renew the lock; exit the process if another has taken the folder over, as after a long standstill."""
    beat = 0
    while not done.wait(intervals.beat):
        beat += 1
        try:
            holder = _read(folder, name)
            if holder is None or holder.key != mine.key or _locks(folder)[-1] != name:
                _log.error("another training has taken over the checkpoint folder; this training ends")
                os._exit(ExitCode.STALE)
            _write(folder, name, LockHolder(**{**vars(mine), "beat": beat}))
        except FileNotFoundError:
            _log.error("the lock of the checkpoint folder was removed; this training ends")
            os._exit(ExitCode.STALE)
        except OSError as error:
            _log.warning("cannot renew the lock of the checkpoint folder: %s", error)


def _living(folder: Folder, name: str, intervals: LockIntervals) -> LockHolder | None:
    """Return the live holder of a lock; None for a lock that is stale or is deleted meanwhile."""
    deadline, first = time.monotonic() + intervals.stale, None
    while time.monotonic() < deadline:
        try:
            holder = _read(folder, name)
        except FileNotFoundError:
            return None
        if holder is not None:
            if holder.has_ended:
                return None
            if holder.processes == _processes() or (first is not None and holder != first):
                return holder
            first = first or holder
        time.sleep(intervals.look)
    return None


def _locks(folder: Folder) -> list[str]:
    """List the names of all locks, the highest last."""
    return sorted((name for name in folder.names() if _NAME.fullmatch(name)), key=_number)


def _number(name: str) -> int:
    found = _NAME.fullmatch(name)
    assert found is not None
    return int(found[1])


def _is_ours(folder: Folder, name: str, mine: LockHolder) -> bool:
    """Return whether the lock is ours: a store whose response was lost may have created it all the same."""
    try:
        holder = _read(folder, name)
    except FileNotFoundError:
        return False
    return holder is not None and holder.key == mine.key


def _read(folder: Folder, name: str) -> LockHolder | None:
    """Read the holder of a lock; None for a lock that is not written yet."""
    try:
        return LockHolder(**json.loads(folder.read(name)))
    except (ValueError, TypeError):
        return None


def _signed(holder: LockHolder) -> bytes:
    return json.dumps(vars(holder)).encode()


def _write(folder: Folder, name: str, holder: LockHolder) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(_signed(holder))
        file.flush()
        folder.upload(Path(file.name), name)


def _processes() -> str:
    """Return the boot id and pid namespace of this process; empty where the system does not expose them."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _began(pid: int) -> str:
    """Return when a process of this namespace started, in ticks since boot; empty where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
