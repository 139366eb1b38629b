"""Checkpoints while training goes on: a copy now, the writing behind its back.

The step waits only until the state is copied to host memory. One thread then
writes it with checksums, asks
whether this generation may still commit, and creates the marker. All ranks
learn the same verdict, in a process group of their own, so that the training
loop's collectives and these never meet.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import torch.distributed as dist
from torch import Tensor

from footplate_contracts.reports import CheckpointRecord, GenerationId
from footplate_contracts.v1alpha1.compute import Checkpoint
from footplate_elastic.protocol.agent_client import AgentClient
from footplate_trainer.checkpoint import layout
from footplate_trainer.checkpoint.durable.pace import Pace
from footplate_trainer.checkpoint.durable.plan import TensorPlan
from footplate_trainer.checkpoint.layout import CommitMarker, FileRecord, Manifest, StepDirectory
from footplate_trainer.checkpoint.record import TrainingState, release
from footplate_trainer.checkpoint.state import HostCopy
from footplate_trainer.checkpoint.store import CheckpointStore, is_full, storage_errors
from footplate_trainer.errors import StaleGeneration, StorageError
from footplate_trainer.parallel.world import World

_log = logging.getLogger(__name__)

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
        agent: AgentClient,
        clock: Callable[[], float],
    ) -> None:
        """`sidecars` are files that rank 0 puts into every checkpoint directory, by name."""
        self._store = store
        self._world = world
        self._host = host
        self._generation = generation
        self._settings = settings
        self._sidecars = sidecars
        self._agent = agent
        self._clock = clock
        self._plan: TensorPlan | None = None  # made with the first checkpoint: the memory is always the same
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
        plan = self._plan = self._plan or TensorPlan.of(snapshot.tensors, self._world.background)
        obstacle = self._from_rank_0(lambda: self._make_way(directory))
        if obstacle is Outcome.SUPERSEDED:
            # Written under our generation's name, and not by us: a run without agent was started twice.
            return self._superseded(directory)
        verdict: Outcome | Failure | None = obstacle
        if verdict is None:
            parts = self._gather(self._write_tensors(plan, snapshot, directory))
            if self._world.rank == 0:
                verdict = self._complete(plan, snapshot, directory, parts)
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

    def _make_way(self, directory: StepDirectory) -> Outcome | Failure | None:
        """Rank 0: remove what an earlier attempt of this generation left; why nothing can be written."""
        if self._is_marked(directory):
            return Outcome.SUPERSEDED
        try:
            self._store.discard(directory)
        except OSError as error:
            return Failure.of(error, self._what(directory))
        return None

    def _write_tensors(
        self, plan: TensorPlan, snapshot: Snapshot, directory: StepDirectory
    ) -> FileRecord | Failure:
        """This rank's part of the tensors, in storage, with its checksum."""
        pace = Pace(snapshot.hurry)
        try:
            return plan.write(self._store.folder, directory.name, pace)
        except OSError as error:
            return Failure.of(error, self._what(directory))

    def _gather(self, part: FileRecord | Failure) -> list[FileRecord | Failure]:
        """What became of everybody's part, on rank 0. Collective."""
        world = self._world
        parts: list[Any] | None = [None] * world.size if world.rank == 0 else None
        dist.gather_object(part, parts, group=world.background, group_dst=0)
        return parts or []

    def _what(self, directory: StepDirectory) -> str:
        return f"checkpoint of step {directory.step} in {self._store.uri}"

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
            _log.warning(
                "checkpoint: step %d was already committed by another generation, or by another process"
                " that runs this run",
                directory.step,
            )
        return Outcome.SUPERSEDED

    def _complete(
        self,
        plan: TensorPlan,
        snapshot: Snapshot,
        directory: StepDirectory,
        parts: Sequence[FileRecord | Failure],
    ) -> Outcome | Failure:
        """Rank 0, when everybody has tried: manifest, permission, marker, retention."""
        failure = next((part for part in parts if isinstance(part, Failure)), None)
        if failure is not None:
            return failure
        records = [part for part in parts if not isinstance(part, Failure)]
        try:
            with storage_errors(self._what(directory)):
                unseen = self._store.first_unseen(directory.name, records)
                if unseen is not None:
                    return Failure(unseen, full=False)
                manifest = self._write_manifest(snapshot.state, directory, plan, records)
                if not self._agent.grant(directory.step):
                    return Outcome.STALE
                return self._commit(snapshot, directory, manifest)
        except StorageError as error:
            return Failure.of(error.__cause__ or error, str(error))

    def _write_manifest(
        self, state: TrainingState, directory: StepDirectory, plan: TensorPlan, records: list[FileRecord]
    ) -> Manifest:
        assert plan.index is not None, "rank 0 has it"
        small = {
            **self._sidecars,
            layout.STATE_FILE: _json(state.to_json()),
            layout.INDEX_FILE: plan.index,
        }
        own = [self._store.write(directory.name, name, small[name]) for name in sorted(small)]
        manifest = Manifest(format=layout.FORMAT, written_by=release(), files=[*own, *records])
        self._store.write(directory.name, layout.MANIFEST_FILE, _json(manifest.to_json()))
        return manifest

    def _commit(self, snapshot: Snapshot, directory: StepDirectory, manifest: Manifest) -> Outcome:
        state, now = snapshot.state, self._clock()
        marker = CommitMarker(step=state.step, directory=directory.name, tokens=state.tokens, time=now)
        if not self._store.commit(marker):
            return self._superseded(directory)
        self._agent.checkpoint(
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
            reason = error.strerror or error
            _log.warning("old checkpoints in %s cannot be removed: %s", self._store.uri, reason)

    def _discard(self, directory: StepDirectory) -> None:
        """Remove a directory that nobody will need, where that is certain."""
        with suppress(OSError):
            # A store may make the marker and fail to say so: then the directory counts.
            marker = self._store.marker(directory.step)
            if marker is None or marker.directory != directory.name:
                self._store.discard(directory)


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1).encode()
