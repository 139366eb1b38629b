"""Checkpoints while training goes on: a copy now, the writing behind its back.

The step waits only until the state is copied to host memory. One thread then
writes it with torch's distributed checkpoint, proves it with checksums, asks
whether this generation may still commit, and creates the marker. All ranks
learn the same verdict, in a process group of their own, so that the training
loop's collectives and these never meet.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_saver import save

from footplate_contracts.reports import CheckpointRecord, GenerationId
from footplate_contracts.v1alpha1.compute import Checkpoint
from footplate_trainer.checkpoint import layout
from footplate_trainer.checkpoint.layout import CommitMarker, FileRecord, Manifest, StepDirectory
from footplate_trainer.checkpoint.pace import Pace
from footplate_trainer.checkpoint.record import TrainingState
from footplate_trainer.checkpoint.state import HostCopy
from footplate_trainer.checkpoint.store import CheckpointStore, is_full, storage_errors
from footplate_trainer.checkpoint.tensors import TensorWriter
from footplate_trainer.errors import StaleGeneration, StorageError
from footplate_trainer.link import Link
from footplate_trainer.parallel.world import World

Value = TypeVar("Value")


class Outcome(StrEnum):
    """How a checkpoint ended."""

    COMMITTED = "committed"
    SUPERSEDED = "superseded"  # another generation had committed that step before
    STALE = "stale"  # this generation may not commit any more


@dataclass(frozen=True)
class Failure:
    """A StorageError on its way to the other ranks."""

    message: str
    full: bool

    @classmethod
    def of(cls, error: BaseException, what: str) -> Failure:
        """What to tell about `error`."""
        return cls(f"{what}: {error}"[:900], is_full(error))


@dataclass(frozen=True)
class Snapshot:
    """A copy of the state in host memory."""

    tensors: Mapping[str, Tensor]
    state: TrainingState
    begun: float
    copied: float
    hurry: threading.Event  # set when someone waits for the end


class Saver:
    """At most one checkpoint in flight; the next one waits for it."""

    def __init__(
        self,
        store: CheckpointStore,
        world: World,
        host: HostCopy,
        generation: GenerationId,
        settings: Checkpoint,
        sidecars: Mapping[str, bytes],
        link: Link,
        clock: Callable[[], float],
    ) -> None:
        """`sidecars` are files that rank 0 puts into every checkpoint directory, by name."""
        self._store = store
        self._world = world
        self._host = host
        self._generation = generation
        self._settings = settings
        self._sidecars = sidecars
        self._link = link
        self._clock = clock
        self._pending: Future[Outcome] | None = None
        self._hurry = threading.Event()

    def start(self, state: TrainingState) -> None:
        """Copy the state and begin to write it; collective. First waits for the one before."""
        self.finish()
        begun = self._clock()
        self._hurry = threading.Event()
        snapshot = Snapshot(self._host.fill(), state, begun, self._clock(), self._hurry)
        self._pending = Future()
        thread = threading.Thread(
            target=self._run, args=(snapshot, self._pending), name="footplate-checkpoint", daemon=True
        )
        thread.start()

    def change(self, settings: Checkpoint, sidecars: Mapping[str, bytes]) -> None:
        """What is kept from now on, and `sidecars` instead of those of the same names."""
        self._settings = settings
        self._sidecars = {**self._sidecars, **sidecars}

    @property
    def failed(self) -> bool:
        """Whether the checkpoint in flight has ended with an error; never waits."""
        return self._pending is not None and self._pending.done() and self._pending.exception() is not None

    def finish(self) -> None:
        """Wait for the checkpoint in flight; StorageError or StaleGeneration when it came to nothing."""
        pending, self._pending = self._pending, None
        self._hurry.set()
        if pending is not None:
            pending.result()

    def _run(self, snapshot: Snapshot, pending: Future[Outcome]) -> None:
        try:
            pending.set_result(self._save(snapshot))
        except BaseException as error:  # noqa: BLE001 - the edge of a thread: whoever waits gets it
            pending.set_exception(error)

    def _save(self, snapshot: Snapshot) -> Outcome:
        directory = StepDirectory.of(snapshot.state.step, self._generation)
        if self._from_rank_0(lambda: self._is_marked(directory)):
            # Written under our generation's name, and not by us: a run without agent was started twice.
            return self._superseded(directory)
        verdict: Outcome | Failure | None = None
        records, failure = self._exchange(*self._write_tensors(snapshot, directory))
        if self._world.rank == 0:
            verdict = failure or self._complete(snapshot, directory, records)
            if verdict is not Outcome.COMMITTED:
                self._discard(directory)
        verdict = self._from_rank_0(lambda: verdict)
        if isinstance(verdict, Failure):
            raise StorageError(verdict.message, full=verdict.full, step=snapshot.state.step)
        if verdict is Outcome.STALE:
            raise StaleGeneration(
                f"generation {self._generation} may not commit step {snapshot.state.step}: a newer one exists"
            )
        assert verdict is not None, "rank 0 has decided"
        return verdict

    def _write_tensors(
        self, snapshot: Snapshot, directory: StepDirectory
    ) -> tuple[list[FileRecord], Failure | None]:
        """This rank's part of the tensors, in storage, with its checksums."""
        what = f"checkpoint of step {snapshot.state.step} in {self._store.uri}"
        writer = TensorWriter(self._store.folder, directory.name, Pace(snapshot.hurry))
        try:
            if self._world.rank == 0:
                self._store.discard(directory)  # what an earlier attempt of this generation left
            save(dict(snapshot.tensors), storage_writer=writer, process_group=self._world.background)
            return writer.records, None
        except OSError as error:
            return [], Failure.of(error, what)
        except CheckpointException as error:
            causes = [cause for cause, _ in error.failures.values()]
            if not all(isinstance(cause, OSError) for cause in causes):
                raise RuntimeError(str(error)) from error
            full = any(is_full(cause) for cause in causes)
            return [], Failure(f"{what}: {causes[0]}"[:900], full)

    def _exchange(
        self, records: list[FileRecord], failure: Failure | None
    ) -> tuple[list[FileRecord], Failure | None]:
        """Everybody's file records and the first failure, if any."""
        parts: list[Any] = [None] * self._world.size
        dist.all_gather_object(parts, (records, failure), group=self._world.background)
        everything = [record for some, _ in parts for record in some]
        return everything, next((failure for _, failure in parts if failure), None)

    def _from_rank_0(self, decide: Callable[[], Value]) -> Value:
        """What `decide` gives on rank 0, on every rank. Collective."""
        box: list[Any] = [decide() if self._world.rank == 0 else None]
        dist.broadcast_object_list(box, group_src=0, group=self._world.background)
        result: Value = box[0]
        return result

    def _is_marked(self, directory: StepDirectory) -> bool:
        """Whether the marker of its step names `directory`, as far as storage says."""
        with suppress(OSError):
            marker = self._store.marker(directory.step)
            return marker is not None and marker.directory == directory.name
        return False

    def _superseded(self, directory: StepDirectory) -> Outcome:
        if self._world.rank == 0:
            print(
                f"checkpoint: step {directory.step} was already committed by another generation, or by "
                "another process that runs this run",
                file=sys.stderr,
            )
        return Outcome.SUPERSEDED

    def _complete(
        self, snapshot: Snapshot, directory: StepDirectory, records: list[FileRecord]
    ) -> Outcome | Failure:
        """Rank 0, when all parts are written: manifest, permission, marker, retention."""
        try:
            with storage_errors(f"checkpoint of step {directory.step} in {self._store.uri}"):
                unseen = self._store.first_unseen(directory.name, records)
                if unseen is not None:
                    return Failure(unseen, full=False)
                manifest = self._write_manifest(snapshot.state, directory, records)
                if not self._link.grant(directory.step):
                    return Outcome.STALE
                return self._commit(snapshot, directory, manifest)
        except StorageError as error:
            return Failure.of(error.__cause__ or error, str(error))

    def _write_manifest(
        self, state: TrainingState, directory: StepDirectory, records: list[FileRecord]
    ) -> Manifest:
        sidecars = {**self._sidecars, layout.STATE_FILE: _json(state.to_json())}
        own = [self._store.write(directory.name, name, sidecars[name]) for name in sorted(sidecars)]
        manifest = Manifest(files=[*own, *records])
        self._store.write(directory.name, layout.MANIFEST_FILE, _json(manifest.to_json()))
        return manifest

    def _commit(self, snapshot: Snapshot, directory: StepDirectory, manifest: Manifest) -> Outcome:
        state, now = snapshot.state, self._clock()
        marker = CommitMarker(step=state.step, directory=directory.name, tokens=state.tokens, time=now)
        if not self._store.commit(marker):
            return self._superseded(directory)
        self._link.checkpoint(
            CheckpointRecord(
                step=state.step,
                uri=self._store.place(directory.name),
                time=now,
                bytes=sum(record.bytes for record in manifest.files),
                seconds_blocked=snapshot.copied - snapshot.begun,
                seconds_total=now - snapshot.begun,
            )
        )
        self._retain()
        return Outcome.COMMITTED

    def _retain(self) -> None:
        """Remove what is old; what cannot go now is found again after the next commit."""
        try:
            self._store.retain(self._settings.keep_last, self._settings.keep_every_steps, self._generation)
        except OSError as error:  # the new one is committed, whatever becomes of the old ones
            print(
                f"warning: old checkpoints in {self._store.uri} cannot be removed: {error.strerror or error}",
                file=sys.stderr,
                flush=True,
            )

    def _discard(self, directory: StepDirectory) -> None:
        """Remove a directory that nobody will need, where that is certain."""
        with suppress(OSError):
            # A store may make the marker and fail to say so: then the directory counts.
            marker = self._store.marker(directory.step)
            if marker is None or marker.directory != directory.name:
                self._store.discard(directory)


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1).encode()
