"""The journal of a rollout: what is finished is durable a moment later, and found again after any end.

Records wait in a queue for one thread, which takes all that are there, appends them and waits until they are
durable: so that nobody waits for a disk, and as few writes are made as are needed. On a file system a rank
has one file, and appends. A bucket's objects are written whole: there the thread rests between two of them
for a share of the time that it has been at it, so that their number grows as a logarithm and at most that
share of the work is lost.

Each generation writes files of its own (`places`), so a writer that was frozen and wakes up does no harm.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Protocol

from footplate_contracts.reports import GenerationId
from footplate_trainer.checkpoint.folder import Folder, LocalFolder
from footplate_trainer.checkpoint.store import storage_errors
from footplate_trainer.rollout import records
from footplate_trainer.rollout.identity import JournalKey
from footplate_trainer.rollout.kept import KeptRollout, merged
from footplate_trainer.rollout.places import FOLDER, JournalFile, ended, rollout_folder
from footplate_trainer.rollout.records import Record
from footplate_trainer.storage import sync_folder

_log = logging.getLogger(__name__)

_REST: Final = 1 / 64  # of the time since a rollout began: between two objects
_LEAST_REST: Final = 0.25  # seconds
_AGAIN: Final = 1.0  # seconds after a failed write


class _Writer(Protocol):
    """Where the records of one rank and rollout go."""

    def append(self, content: bytes) -> None:
        """Durable when it returns; raises OSError."""

    def rest(self, seconds: float) -> float:
        """How long to gather records before the next is written, `seconds` after the first."""


class Journal:
    """Of one rank; `writing` a rollout at a time. Thread-safe."""

    def __init__(
        self,
        folder: Folder,
        generation: GenerationId,
        rank: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._clock = folder, clock
        self._file = JournalFile(0, generation, rank)
        self._waiting: list[Record] = []
        self._durable = threading.Condition()
        self._error: Exception | None = None
        self._busy = self._hurry = self._ended = False
        self._step, self._key = 0, JournalKey("")
        self._writer: _Writer | None = None
        self._begun = 0.0
        self._thread: threading.Thread | None = None

    def begin(self, step: int, key: JournalKey) -> None:
        """From now on records are those of the rollout of `key`, that began after `step`."""
        self.flush()
        with self._durable:
            self._step, self._key, self._writer = step, key, None

    def add(self, finished: Sequence[Record]) -> None:
        """Keep `finished`; never waits. What cannot be written is tried again until `flush` gives it up."""
        with self._durable:
            self._waiting += finished
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="footplate-journal", daemon=True)
                self._thread.start()
            self._durable.notify_all()

    def flush(self, patience: float = 60.0) -> None:
        """Wait until all that was added is durable; StorageError where it is not after `patience` seconds."""
        deadline = self._clock() + patience
        with self._durable, storage_errors(f"rollout of step {self._step} in {self._folder.uri}"):
            self._error, self._hurry = None, True
            self._durable.notify_all()
            self._durable.wait_for(lambda: self._is_idle() or self._is_given_up(deadline))
            self._hurry = False
            if not self._is_idle() and self._error is not None:
                raise self._error

    def _is_given_up(self, deadline: float) -> bool:
        """Whether there is an error that no further attempt mends, or none did in time."""
        if self._error is None:
            return False
        return not isinstance(self._error, OSError) or self._clock() >= deadline

    def _is_idle(self) -> bool:
        return not (self._waiting or self._busy)

    def close(self) -> None:
        """Flush, and end the thread."""
        self.flush()
        with self._durable:
            self._ended = True
            self._durable.notify_all()

    def _write(self) -> None:
        """The thread."""
        while taken := self._take():
            error: Exception | None = None
            try:
                self._writer = self._writer or self._open()
                self._writer.append(records.encoded(taken))
            except Exception as failed:  # noqa: BLE001 - the edge of a thread: whoever waits gets it
                error = failed
            with self._durable:
                self._busy = False
                if error is not None:
                    self._waiting, self._error = [*taken, *self._waiting], error
                self._durable.notify_all()
                if error is not None:
                    self._durable.wait_for(lambda: self._ended, _AGAIN)

    def _take(self) -> list[Record]:
        """All that is there once it is time to write; nothing at the end."""
        with self._durable:
            self._durable.wait_for(lambda: self._waiting or self._ended)
            rest = self._writer.rest(self._clock() - self._begun) if self._writer else 0.0
            self._durable.wait_for(lambda: self._hurry or self._ended, rest)
            taken, self._waiting = ([] if self._error and self._ended else self._waiting), []
            self._busy = bool(taken)
            return taken

    def _open(self) -> _Writer:
        """Behind the files that a process of this name may have left: none is written to again."""
        self._begun = self._clock()
        file, header = replace(self._file, step=self._step), records.header(self._key)
        there = files_of(self._folder, self._step)
        left = [other.number for other in there if replace(other, number=0) == file]
        file = replace(file, number=max(left, default=-1) + 1)
        if isinstance(self._folder, LocalFolder):
            return _Appending(self._folder, file, header)
        return _Numbered(self._folder, file, header)


class _Appending:
    """One file, to which is appended; another behind it where what a failed call left cannot be cut off."""

    def __init__(self, folder: LocalFolder, file: JournalFile, header: bytes) -> None:
        self._folder, self._file, self._header = folder, file, header
        self._found = False  # its name is as durable as its content

    def append(self, content: bytes) -> None:
        """See _Writer. Nothing waits in a buffer: what is there after a failure is what was there before."""
        path = self._folder.folder / self._file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            before = os.fstat(file).st_size
            try:
                _write_all(file, content if before else self._header + content)
                os.fsync(file)
            except OSError:
                self._cut(file, before)
                raise
        finally:
            os.close(file)
        if not self._found:
            for folder in path.parents[:3]:  # of the rollout, of all of them, and of checkpoints
                sync_folder(folder)
            self._found = True

    def rest(self, seconds: float) -> float:
        """See _Writer."""
        return 0.0

    def _cut(self, file: int, size: int) -> None:
        """Nothing is appended behind a torn record, as nobody would read it."""
        try:
            os.ftruncate(file, size)
        except OSError:
            self._file, self._found = replace(self._file, number=self._file.number + 1), False


def _write_all(file: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(file, left) :]


class _Numbered:
    """Objects, one after another."""

    def __init__(self, folder: Folder, file: JournalFile, header: bytes) -> None:
        self._folder, self._file, self._header = folder, file, header

    def append(self, content: bytes) -> None:
        """See _Writer. What is written again after an error has the same name, and so is there once."""
        with self._folder.open_write(self._file.name) as stream:
            stream.write(self._header + content)
        self._file = replace(self._file, number=self._file.number + 1)

    def rest(self, seconds: float) -> float:
        """See _Writer."""
        return max(_LEAST_REST, seconds * _REST)


def read(folder: Folder, step: int, key: JournalKey) -> KeptRollout:
    """What is finished of the rollout that began after `step`; StorageError where it cannot be read.

    A file that ends in the middle of a record, or is not of `key` as a whole, counts as far as it is.
    """
    with storage_errors(f"rollout of step {step} in {folder.uri}"):
        files: dict[GenerationId, list[Record]] = defaultdict(list)
        for file in files_of(folder, step):
            found, whole = records.decoded(folder.read(file.name), key)
            if not whole:
                _log.info("%s is torn, or of another rollout: %d of its records count", file.name, len(found))
            files[file.generation] += found
    return merged(files)


def files_of(folder: Folder, step: int) -> list[JournalFile]:
    """Those of the rollout that began after `step`; raises OSError."""
    parsed = (JournalFile.parse(stored.name) for stored in folder.list(rollout_folder(step)))
    return [file for file in parsed if file is not None]


def forget(folder: Folder, standing: Sequence[int], updates: int) -> None:
    """Remove what no start from one of the checkpoints `standing` (their steps) needs; raises OSError."""
    begun = {file.step for stored in folder.list(FOLDER) if (file := JournalFile.parse(stored.name))}
    for step in ended(sorted(begun), standing, updates):
        folder.remove(rollout_folder(step))
