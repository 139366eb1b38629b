"""Checkpoints while training goes on: a copy now, the writing behind its back.

The step waits only until the state is copied to host memory. One thread then
writes it with checksums, asks whether this generation may still commit, and
creates the marker. All ranks learn the same verdict, in a process group of
their own, so that the training loop's collectives and these never meet.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from footplate_contracts.reports import CheckpointRecord, GenerationId
from footplate_contracts.v1alpha1.compute import Checkpoint
from footplate_elastic.protocol.agent_client import AgentClient
from footplate_trainer.background import OneInFlight
from footplate_trainer.checkpoint import layout
from footplate_trainer.checkpoint.durable.pace import Pace
from footplate_trainer.checkpoint.durable.plan import TensorPlan
from footplate_trainer.checkpoint.layout import CheckpointFile, CommitMarker, Manifest, StepDirectory
from footplate_trainer.checkpoint.record import TrainingState, release
from footplate_trainer.checkpoint.state import HostCopy
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.checkpoint.store import CheckpointStore, storage_errors
from footplate_trainer.errors import StaleGeneration, StorageError
from footplate_trainer.parallel import agree
from footplate_trainer.parallel.world import World

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """A copy of the state in host memory."""

    tensors: Mapping[str, Tensor]
    state: TrainingState
    begun: float
    copied: float
    hurry: threading.Event  # set when someone waits for the end


@dataclass
class Saver:
    """At most one checkpoint in flight; the next one waits for it."""

    store: CheckpointStore
    world: World
    host: HostCopy
    generation: GenerationId
    settings: Checkpoint
    sidecars: Mapping[str, bytes]  # files that rank 0 puts into every checkpoint directory, by name
    agent: AgentClient
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        self._plan: TensorPlan | None = None  # made with the first checkpoint: the memory is always the same
        self._writing = OneInFlight("footplate-checkpoint")
        self._hurry = threading.Event()

    def start(self, state: TrainingState) -> None:
        """Copy the state and begin to write it; collective. First waits for the one before."""
        self.finish()
        begun = self.clock()
        self._hurry = threading.Event()
        snapshot = Snapshot(self.host.fill(), state, begun, self.clock(), self._hurry)
        self._writing.start(partial(self._save, snapshot))

    def change(self, settings: Checkpoint, sidecars: Mapping[str, bytes]) -> None:
        """What is kept from now on, and `sidecars` instead of those of the same names."""
        self.settings = settings
        self.sidecars = {**self.sidecars, **sidecars}

    @property
    def failed(self) -> bool:
        """Whether the checkpoint in flight has ended with an error; never waits."""
        return self._writing.failed

    def finish(self) -> None:
        """Wait for the checkpoint in flight; StorageError or StaleGeneration when it came to nothing."""
        self._hurry.set()
        self._writing.finish()

    def _save(self, snapshot: Snapshot) -> None:
        """In the thread: all ranks write, rank 0 commits, and every rank raises what came to nothing."""
        group = self.world.background
        directory = StepDirectory.of(snapshot.state.step, self.generation)
        plan = self._plan = self._plan or TensorPlan.of(snapshot.tensors, group)
        if agree.from_rank_0(lambda: self._make_way(directory), group):
            parts = agree.gather_to_0(self._write_tensors(plan, snapshot, directory), group)
            agree.from_rank_0(lambda: self._complete(plan, snapshot, directory, parts), group)

    def _make_way(self, directory: StepDirectory) -> bool:
        """Rank 0: remove what an earlier attempt of this generation left; False where it was committed."""
        if self._is_marked(directory):
            # Written under our generation's name, and not by us: a run without agent was started twice.
            _warn_superseded(directory)
            return False
        with self._errors(directory):
            self.store.discard(directory)
        return True

    def _write_tensors(
        self, plan: TensorPlan, snapshot: Snapshot, directory: StepDirectory
    ) -> CheckpointFile | StorageError:
        """This rank's part of the tensors, in storage, with its checksum; an error for rank 0 to judge."""
        pace = Pace(snapshot.hurry)
        try:
            with self._errors(directory):
                return plan.write(self.store.folder, directory.name, pace)
        except StorageError as error:
            return error

    def _errors(self, directory: StepDirectory) -> AbstractContextManager[None]:
        return storage_errors(f"checkpoint of step {directory.step} in {self.store.uri}", directory.step)

    def _is_marked(self, directory: StepDirectory) -> bool:
        """Whether the marker of its step names `directory`, as far as storage says."""
        with suppress(OSError):
            marker = self.store.marker(directory.step)
            return marker is not None and marker.directory == directory.name
        return False

    def _complete(
        self,
        plan: TensorPlan,
        snapshot: Snapshot,
        directory: StepDirectory,
        parts: Sequence[CheckpointFile | StorageError],
    ) -> None:
        """Rank 0, when everybody has tried: manifest, permission, marker, retention."""
        committed = False
        try:
            records = _whole(parts)
            with self._errors(directory):
                unseen = StepCheckpoint(self.store, directory.name).first_unseen(records)
                if unseen is not None:
                    raise StorageError(unseen, step=directory.step)
                manifest = self._write_manifest(snapshot.state, directory, plan, records)
                if not self.agent.grant(directory.step):
                    raise StaleGeneration(
                        f"generation {self.generation} may not commit step {directory.step}: "
                        "a newer one exists"
                    )
                committed = self._commit(snapshot, directory, manifest)
        finally:
            if not committed:
                self._discard(directory)

    def _write_manifest(
        self, state: TrainingState, directory: StepDirectory, plan: TensorPlan, records: list[CheckpointFile]
    ) -> Manifest:
        assert plan.index is not None, "rank 0 has it"
        small = {
            **self.sidecars,
            layout.STATE_FILE: _json(state.to_json()),
            layout.INDEX_FILE: plan.index,
        }
        own = [self.store.write(directory.name, name, small[name]) for name in sorted(small)]
        manifest = Manifest(format=layout.FORMAT, written_by=release(), files=[*own, *records])
        self.store.write(directory.name, layout.MANIFEST_FILE, _json(manifest.to_json()))
        return manifest

    def _commit(self, snapshot: Snapshot, directory: StepDirectory, manifest: Manifest) -> bool:
        """Make the marker and tell the run; False when another generation was first."""
        state, now = snapshot.state, self.clock()
        marker = CommitMarker(step=state.step, directory=directory.name, tokens=state.tokens, time=now)
        if not self.store.commit(marker):
            _warn_superseded(directory)
            return False
        self.agent.checkpoint(
            CheckpointRecord(
                step=state.step,
                uri=self.store.place(directory.name),
                time=now,
                bytes=sum(record.bytes for record in manifest.files),
                seconds_blocked=snapshot.copied - snapshot.begun,
                seconds_total=now - snapshot.begun,
            )
        )
        self._retain()
        return True

    def _retain(self) -> None:
        """Remove what is old; what cannot go now is found again after the next commit."""
        try:
            self.store.retain(self.settings.keep_last, self.settings.keep_every_steps, self.generation)
        except OSError as error:  # the new one is committed, whatever becomes of the old ones
            reason = error.strerror or error
            _log.warning("old checkpoints in %s cannot be removed: %s", self.store.uri, reason)

    def _discard(self, directory: StepDirectory) -> None:
        """Remove a directory that nobody will need, where that is certain."""
        with suppress(OSError):
            # A store may make the marker and fail to say so: then the directory counts.
            marker = self.store.marker(directory.step)
            if marker is None or marker.directory != directory.name:
                self.store.discard(directory)


def _whole(parts: Sequence[CheckpointFile | StorageError]) -> list[CheckpointFile]:
    """The records of all ranks; raises the first error among them."""
    for part in parts:
        if isinstance(part, StorageError):
            raise part
    return [part for part in parts if isinstance(part, CheckpointFile)]


def _warn_superseded(directory: StepDirectory) -> None:
    _log.warning(
        "checkpoint: step %d was already committed by another generation, or by another process"
        " that runs this run",
        directory.step,
    )


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1).encode()
