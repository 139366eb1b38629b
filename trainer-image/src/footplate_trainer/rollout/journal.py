"""The journal of a rollout: finished work is durable a moment later, and can be read after any end.

Records wait in a queue for one thread, which takes all of them, appends them and waits until they are
durable: so no caller waits for a disk, and writes are as few as possible. On a file system a rank
has one file, and appends. A bucket's objects are written whole: there the thread pauses between two of them
for a share of the time since its first write, so that their number grows as a logarithm and at most that
share of the work is lost.

Each generation writes its own files (`places`), so a writer that was frozen and resumes does no harm.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Final, Protocol

from footplate_contracts.reports import GenerationId
from footplate_trainer.background import complete
from footplate_trainer.checkpoint.folder import Folder, LocalFolder
from footplate_trainer.checkpoint.store import storage_errors
from footplate_trainer.errors import TrainerError
from footplate_trainer.parallel import object_collectives
from footplate_trainer.parallel.world import DistributedContext
from footplate_trainer.rollout import journal_records
from footplate_trainer.rollout.journal_files import (
    FOLDER,
    JournalFile,
    find_obsolete_rollouts,
    rollout_folder,
)
from footplate_trainer.rollout.journal_keys import JournalKey
from footplate_trainer.rollout.journal_records import Record, RolloutState, merge_records
from footplate_trainer.storage import sync_folder

_log = logging.getLogger(__name__)

_REST: Final = 1 / 64  # of the time since a rollout began: between two objects
_LEAST_REST: Final = 0.25  # seconds
_AGAIN: Final = 1.0  # seconds after a failed write


class _Writer(Protocol):
    """A destination of one rank's records of one rollout."""

    def append(self, content: bytes) -> None:
        """Write `content` durably; raises OSError."""

    def rest(self, seconds: float) -> float:
        """Return how long to collect records before the next write, `seconds` after the first."""


class Journal:
    """The journal of one rank, for one rollout at a time. Thread-safe."""

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
        self._error: BaseException | None = None
        self._busy = self._urgent = self._ended = False
        self._step, self._key = 0, JournalKey("")
        self._writer: _Writer | None = None
        self._begun = 0.0
        self._thread: threading.Thread | None = None

    def start_rollout(self, step: int, key: JournalKey) -> None:
        """Start writing records of the rollout of `key`, which began after `step`."""
        self.flush()
        with self._durable:
            self._step, self._key, self._writer = step, key, None

    def add(self, finished: Sequence[Record]) -> None:
        """Queue `finished` without waiting; failed writes are retried until `flush` gives up."""
        with self._durable:
            self._waiting += finished
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="footplate-journal", daemon=True)
                self._thread.start()
            self._durable.notify_all()

    def flush(self, timeout: float = 60.0) -> None:
        """Wait until all records are durable; raise StorageError if they are not after `timeout` seconds."""
        deadline = self._clock() + timeout
        with self._durable, storage_errors(f"rollout of step {self._step} in {self._folder.uri}"):
            self._error, self._urgent = None, True
            self._durable.notify_all()
            self._durable.wait_for(lambda: self._is_idle() or self._is_given_up(deadline))
            self._urgent = False
            if not self._is_idle() and self._error is not None:
                raise self._error

    def _is_given_up(self, deadline: float) -> bool:
        """Return whether the error is permanent, or persisted until the deadline."""
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
        """Run the thread: write queued records until the end."""
        while taken := self._take():
            done: Future[None] = Future()
            complete(done, partial(self._append, taken))
            error = done.exception()
            with self._durable:
                self._busy = False
                if error is not None:
                    self._waiting, self._error = [*taken, *self._waiting], error
                self._durable.notify_all()
                if error is not None:
                    self._durable.wait_for(lambda: self._ended, _AGAIN)

    def _append(self, records: Sequence[Record]) -> None:
        self._writer = self._writer or self._open()
        self._writer.append(journal_records.encode_records(records))

    def _take(self) -> list[Record]:
        """Return all queued records once it is time to write; an empty list at the end."""
        with self._durable:
            self._durable.wait_for(lambda: self._waiting or self._ended)
            rest = self._writer.rest(self._clock() - self._begun) if self._writer else 0.0
            self._durable.wait_for(lambda: self._urgent or self._ended, rest)
            taken, self._waiting = ([] if self._error and self._ended else self._waiting), []
            self._busy = bool(taken)
            return taken

    def _open(self) -> _Writer:
        """Open a file numbered after those that a process of this name left: none is written to again."""
        self._begun = self._clock()
        file, header = replace(self._file, step=self._step), journal_records.header(self._key)
        there = list_journal_files(self._folder, self._step)
        left = [other.number for other in there if replace(other, number=0) == file]
        file = replace(file, number=max(left, default=-1) + 1)
        if isinstance(self._folder, LocalFolder):
            return _Appending(self._folder, file, header)
        return _Numbered(self._folder, file, header)


class _Appending:
    """A single file for appends; a new one follows if a failed write's remains cannot be cut off."""

    def __init__(self, folder: LocalFolder, file: JournalFile, header: bytes) -> None:
        self._folder, self._file, self._header = folder, file, header
        self._found = False  # its name is as durable as its content

    def append(self, content: bytes) -> None:
        """See _Writer. Unbuffered: after a failure the file's content is what it was before."""
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
        """Cut off a torn record, behind which nothing would be read; if that fails, switch to a new file."""
        try:
            os.ftruncate(file, size)
        except OSError:
            self._file, self._found = replace(self._file, number=self._file.number + 1), False


def _write_all(file: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(file, left) :]


class _Numbered:
    """Objects, numbered consecutively."""

    def __init__(self, folder: Folder, file: JournalFile, header: bytes) -> None:
        self._folder, self._file, self._header = folder, file, header

    def append(self, content: bytes) -> None:
        """See _Writer. A retry after an error uses the same name, so the content is stored once."""
        with self._folder.open_write(self._file.name) as stream:
            stream.write(self._header + content)
        self._file = replace(self._file, number=self._file.number + 1)

    def rest(self, seconds: float) -> float:
        """See _Writer."""
        return max(_LEAST_REST, seconds * _REST)


def read_rollout(folder: Folder, step: int, key: JournalKey) -> RolloutState:
    """Read all finished work of the rollout that began after `step`; raise StorageError if unreadable.

    A file that ends in the middle of a record, or is not of `key` as a whole, counts as far as it is.
    """
    with storage_errors(f"rollout of step {step} in {folder.uri}"):
        files: dict[GenerationId, list[Record]] = defaultdict(list)
        for file in list_journal_files(folder, step):
            found, whole = journal_records.decode_records(folder.read(file.name), key)
            if not whole:
                _log.info("%s is torn, or of another rollout: %d valid records", file.name, len(found))
            files[file.generation] += found
    return merge_records(files)


def list_journal_files(folder: Folder, step: int) -> list[JournalFile]:
    """List the files of the rollout that began after `step`; raises OSError."""
    parsed = (JournalFile.parse(stored.name) for stored in folder.list(rollout_folder(step)))
    return [file for file in parsed if file is not None]


def delete_obsolete_journals(folder: Folder, standing: Sequence[int], updates: int) -> None:
    """Remove journals that no start from a checkpoint in `standing` (their steps) needs; raises OSError."""
    begun = {file.step for stored in folder.list(FOLDER) if (file := JournalFile.parse(stored.name))}
    for step in find_obsolete_rollouts(sorted(begun), standing, updates):
        folder.remove(rollout_folder(step))


def flush_journals(journal: Journal, world: DistributedContext, error: TrainerError | None = None) -> None:
    """Flush the journal, and raise on every rank any rank's error. Collective.

    A rank that raises alone would leave the others in a collective until its timeout, half an hour.
    That is `error`, or a StorageError if a rank's journal cannot be written.
    """
    try:
        journal.flush()
    except TrainerError as failed:
        error = error or failed
    object_collectives.raise_first(error, world.everybody)


def journal_batches(
    batches: Iterable[Sequence[Record]],
    add: Callable[[Sequence[Record]], None],
    journal: Journal,
    world: DistributedContext,
    stopping: Callable[[], bool],
) -> bool:
    """Journal each of `batches` as it is computed, and `add` all ranks' records on every rank.

    Returns False if any rank's `stopping` returned True, which is called after each batch. Collective, as
    computing a batch may be, and all ranks have equally many. Raises StorageError, on every rank, if one
    cannot write its journal.
    """
    stopped = False
    for records in batches:
        journal.add(records)
        for theirs, stops in object_collectives.all_gather((list(records), stopping()), world.everybody):
            add(theirs)
            stopped = stopped or stops
        if stopped:
            break
    flush_journals(journal, world)
    return not stopped
