"""Saves checkpoints while training continues: the state is copied at once and written in the background.

The step waits only until the state is copied to host memory. One thread then writes it with checksums, asks
the agent whether this generation may still commit, and creates the marker. All ranks get the same verdict, in
a process group of their own, so that these collectives never interleave with the training loop's.

If one rank's part of an attempt fails, the attempt fails for all of them and is repeated (retry.py).
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from torch import Tensor

from footplate_contracts.reports import CheckpointRecord, GenerationId
from footplate_contracts.v1alpha1.compute import Checkpoint
from footplate_elastic.protocol.agent_client import AgentClient
from footplate_trainer.background import OneInFlight
from footplate_trainer.checkpoint import layout
from footplate_trainer.checkpoint.durable.plan import TensorPlan, WriteThrottle
from footplate_trainer.checkpoint.durable.retry import (
    RETRY_SECONDS,
    RetryAction,
    SaveFailures,
    WaitReason,
    retry_delay,
)
from footplate_trainer.checkpoint.layout import (
    CheckpointFile,
    CheckpointRetention,
    CommitMarker,
    Manifest,
    StepDirectory,
    build_removal,
)
from footplate_trainer.checkpoint.state_tensors import HostCopy
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.checkpoint.store import CheckpointStore, Markers, storage_errors
from footplate_trainer.checkpoint.training_state import TrainingState, release_name
from footplate_trainer.errors import FolderNotShared, StaleGeneration, StorageError
from footplate_trainer.parallel import object_collectives
from footplate_trainer.parallel.world import DistributedContext

_log = logging.getLogger(__name__)


@dataclass
class Snapshot:
    """A copy of the state in host memory, and the flags shared by training and the thread that writes it."""

    tensors: Mapping[str, Tensor]
    state: TrainingState
    begun: float
    copied: float
    validation_loss: float | None = None  # of the weights among `tensors`
    urgent: threading.Event = field(default_factory=threading.Event)  # set when someone waits for the end
    needed: threading.Event = field(default_factory=threading.Event)  # set when `waits` is said
    waits: WaitReason = WaitReason.NOT
    waits_since: float = 0.0  # of a monotonic clock
    tried: threading.Event = field(default_factory=threading.Event)  # set after the first try
    goes_on: bool = False  # that one failed, and others follow
    marker: CommitMarker | None = None  # once it was to be made; the same in each try
    bytes: int = 0  # of the files that it was to be made for


@dataclass
class Saver:
    """Writer of durable checkpoints, at most one in flight; the next one waits for it."""

    store: CheckpointStore
    world: DistributedContext
    host: HostCopy
    generation: GenerationId
    settings: Checkpoint
    sidecars: Mapping[str, bytes]  # files that rank 0 puts into every checkpoint directory, by name
    agent: AgentClient
    clock: Callable[[], float]
    monotonic: Callable[[], float] = time.monotonic
    kept: frozenset[int] = frozenset()  # steps that stay whatever their age

    def __post_init__(self) -> None:
        self._plan: TensorPlan | None = None  # made with the first checkpoint: the memory is always the same
        self._writing = OneInFlight("footplate-checkpoint")
        self._snapshot: Snapshot | None = None  # the one in flight
        self._failures = SaveFailures()  # rank 0 keeps it

    def start(self, state: TrainingState, validation_loss: float | None = None) -> None:
        """Copy the state and begin to write it, after an attempt of the checkpoint before. Collective.

        If that attempt fails, the checkpoint before is skipped. `validation_loss` is that of the current
        weights, if it was measured.
        """
        self._wait(WaitReason.FOR_ROOM)
        begun = self.clock()
        snapshot = self._snapshot = Snapshot(
            self.host.fill(), state, begun, self.clock(), validation_loss=validation_loss
        )
        self._writing.start(partial(self._save, snapshot))

    def update_settings(
        self, settings: Checkpoint, kept: frozenset[int], sidecars: Mapping[str, bytes]
    ) -> None:
        """Replace the settings, the steps that are always retained, and the sidecars of the same names."""
        self.settings, self.kept = settings, kept
        self.sidecars = {**self.sidecars, **sidecars}

    @property
    def has_failed(self) -> bool:
        """True if the checkpoint in flight has ended with an error; never waits."""
        return self._writing.failed

    @property
    def skipped_count(self) -> int:
        """Checkpoints skipped since the last durable one, as rank 0 counts them."""
        return self._failures.left_out

    def finish(self) -> None:
        """Wait for the checkpoint in flight, however many attempts it takes.

        Raises StorageError or StaleGeneration when it could not be written.
        """
        self._wait(WaitReason.FOR_THE_END)

    def finish_attempt(self) -> None:
        """Wait for the first attempt of the checkpoint in flight; others follow while training continues."""
        snapshot = self._snapshot
        if snapshot is None:
            return
        snapshot.urgent.set()
        snapshot.tried.wait()
        if not snapshot.goes_on:
            self._writing.finish()

    def _wait(self, waits: WaitReason) -> None:
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is not None:
            snapshot.waits_since, snapshot.waits = self.monotonic(), waits
            snapshot.urgent.set()
            snapshot.needed.set()
        self._writing.finish()

    def _save(self, snapshot: Snapshot) -> None:
        """Try, in the thread and on all ranks, until the checkpoint is durable or skipped.

        It is skipped for the next one. Every rank raises a failure that is final.
        """
        try:
            for tries in count(1):
                try:
                    return self._try(snapshot)
                except StorageError as error:
                    if not self._goes_on(snapshot, error, tries):
                        return None
        finally:
            snapshot.tried.set()

    def _goes_on(self, snapshot: Snapshot, error: StorageError, tries: int) -> bool:
        """Return whether all ranks try again after `error`, which all have; raise it where it is final."""
        group = self.world.background
        follows = object_collectives.compute_on_rank_0(lambda: self._follows(snapshot, error), group)
        if follows is RetryAction.FAIL:
            raise error
        if follows is RetryAction.AGAIN:
            snapshot.goes_on = True
            snapshot.tried.set()
            follows = object_collectives.compute_on_rank_0(lambda: self._rest(snapshot, error, tries), group)
        return follows is RetryAction.AGAIN

    def _follows(self, snapshot: Snapshot, error: StorageError) -> RetryAction:
        """Return the action after `error`, on rank 0."""
        now, waits = self.monotonic(), snapshot.waits
        follows = self._failures.next_action(
            waits,
            waited=0.0 if waits is WaitReason.NOT else now - snapshot.waits_since,
            now=now,
            bound=self.settings.retry_seconds or RETRY_SECONDS,
            hopeless=error.is_persistent and not self._anything_durable(),
        )
        return self._left_out(error) if follows is RetryAction.LEAVE_OUT else follows

    def _rest(self, snapshot: Snapshot, error: StorageError, tries: int) -> RetryAction:
        """Wait before the next attempt, on rank 0; skip it if training needs the buffer by then."""
        seconds = retry_delay(tries, snapshot.waits)
        _log.warning("%s; retrying in %.0f s", error, seconds)
        if snapshot.waits is WaitReason.NOT:
            snapshot.needed.wait(seconds)
        else:
            time.sleep(seconds)
        return self._left_out(error) if snapshot.waits is WaitReason.FOR_ROOM else RetryAction.AGAIN

    def _left_out(self, error: StorageError) -> RetryAction:
        self._failures.count_skipped()
        _log.warning("%s; skipped, as the next save is due; training continues", error)
        return RetryAction.LEAVE_OUT

    def _anything_durable(self) -> bool:
        """Return whether a restart would find a checkpoint; True where storage does not respond."""
        try:
            return bool(self.store.steps())
        except OSError:
            return True

    def _try(self, snapshot: Snapshot) -> None:
        """Write on all ranks and commit on rank 0; a StorageError is raised on every rank."""
        group = self.world.background
        directory = StepDirectory.of(snapshot.state.step, self.generation)
        plan = self._plan = self._plan or TensorPlan.of(snapshot.tensors, group)
        if object_collectives.compute_on_rank_0(lambda: self._make_way(snapshot, directory), group):
            parts = object_collectives.gather_to_rank_0(self._write_tensors(plan, snapshot, directory), group)
            object_collectives.compute_on_rank_0(
                lambda: self._complete(plan, snapshot, directory, parts), group
            )

    def _make_way(self, snapshot: Snapshot, directory: StepDirectory) -> bool:
        """Remove an earlier attempt of this generation, on rank 0; False where it was committed."""
        with self._errors(directory):
            marker = self.store.marker(directory.step)
            if marker is None and snapshot.marker is not None:
                self.store.revoke(directory.step)  # a try before this one may have left it torn
            if marker is None or marker.directory != directory.name:
                self.store.discard(directory)
                return True
        if marker == snapshot.marker:
            self._announce(snapshot, directory)  # a try before this one did it, unanswered
        else:
            # Written under our generation's name, and not by us: a run without agent was started twice.
            _warn_superseded(directory)
        return False

    def _write_tensors(
        self, plan: TensorPlan, snapshot: Snapshot, directory: StepDirectory
    ) -> CheckpointFile | StorageError:
        """Write this rank's tensors; return size and checksum, or the error for rank 0 to handle."""
        pace = WriteThrottle(snapshot.urgent)
        try:
            with self._errors(directory):
                return plan.write(self.store.folder, directory.name, pace)
        except StorageError as error:
            return error

    def _errors(self, directory: StepDirectory) -> AbstractContextManager[None]:
        return storage_errors(f"checkpoint of step {directory.step} in {self.store.uri}", directory.step)

    def _complete(
        self,
        plan: TensorPlan,
        snapshot: Snapshot,
        directory: StepDirectory,
        parts: Sequence[CheckpointFile | StorageError],
    ) -> None:
        """Write manifest and marker on rank 0, after all ranks have tried and the agent permits it."""
        committed = False
        try:
            records = _whole(parts)
            with self._errors(directory):
                unseen = StepCheckpoint(self.store, directory.name).first_missing(records)
                if unseen is not None:
                    raise FolderNotShared(unseen, step=directory.step)
                manifest, digest = self._write_manifest(snapshot.state, directory, plan, records)
                if not self.agent.grant(directory.step):
                    raise StaleGeneration(
                        f"generation {self.generation} may not commit step {directory.step}: a newer "
                        "generation exists"
                    )
                committed = self._commit(snapshot, directory, manifest, digest)
        finally:
            if not committed:
                self._discard(directory)

    def _write_manifest(
        self, state: TrainingState, directory: StepDirectory, plan: TensorPlan, records: list[CheckpointFile]
    ) -> tuple[Manifest, str]:
        """Write the small files and the manifest; return the manifest and its digest."""
        assert plan.index is not None, "rank 0 has it"
        small = {
            **self.sidecars,
            layout.STATE_FILE: _json(state.to_json()),
            layout.INDEX_FILE: plan.index,
        }
        own = [self.store.write(directory.name, name, small[name]) for name in sorted(small)]
        manifest = Manifest(format=layout.FORMAT, written_by=release_name(), files=[*own, *records])
        written = self.store.write(directory.name, layout.MANIFEST_FILE, _json(manifest.to_json()))
        return manifest, written.sha256

    def _commit(self, snapshot: Snapshot, directory: StepDirectory, manifest: Manifest, digest: str) -> bool:
        """Create the marker and report the checkpoint; False when another generation committed first."""
        state = snapshot.state
        # A store may make the marker and fail to say so: then it is found to be ours. A try before this one
        # may have had another run.json, and so another manifest.
        if snapshot.marker is None or snapshot.marker.digest != digest:
            snapshot.marker = CommitMarker(
                step=state.step,
                directory=directory.name,
                tokens=state.tokens,
                time=self.clock(),
                digest=digest,
                validation_loss=snapshot.validation_loss,
            )
        snapshot.bytes = sum(record.bytes for record in manifest.files)
        if not self.store.commit(snapshot.marker):
            _warn_superseded(directory)
            return False
        self._announce(snapshot, directory)
        return True

    def _announce(self, snapshot: Snapshot, directory: StepDirectory) -> None:
        """Report the durable checkpoint to the agent, and remove old ones."""
        now = self.clock()
        self._failures.reset()
        settings, markers = self.settings, self._markers()
        retention = CheckpointRetention(settings.keep_last, settings.keep_every_steps, self.kept)
        known = [marker for marker in markers.values() if marker]
        self.agent.checkpoint(
            CheckpointRecord(
                step=directory.step,
                uri=self.store.directory_uri(directory.name),
                time=now,
                bytes=snapshot.bytes,
                seconds_blocked=snapshot.copied - snapshot.begun,
                seconds_total=now - snapshot.begun,
                generation=self.generation,
                digest=snapshot.marker.digest if snapshot.marker else None,
                validation_loss=snapshot.validation_loss,
                standing=layout.list_standing(known, retention) or None,
            )
        )
        if markers:
            self._retain(markers, retention)

    def _markers(self) -> Markers:
        """Read the commit markers; none where storage does not respond: the next commit reads them again."""
        try:
            return self.store.markers()
        except OSError as error:
            self._cannot_remove(error)
            return {}

    def _retain(self, markers: Markers, retention: CheckpointRetention) -> None:
        """Remove old checkpoints; the next commit retries the removals that fail now."""
        try:
            self.store.apply_retention(markers, retention, self.generation, self._removed)
        except OSError as error:  # the new one is committed, whatever becomes of the old ones
            self._cannot_remove(error)

    def _cannot_remove(self, error: OSError) -> None:
        reason = error.strerror or error
        _log.warning("cannot remove old checkpoints in %s: %s", self.store.uri, reason)

    def _removed(self, directory: StepDirectory) -> None:
        self.agent.removal(build_removal(directory, self.clock()))

    def _discard(self, directory: StepDirectory) -> None:
        """Remove a directory that is certainly not committed."""
        with suppress(OSError):
            # A store may make the marker and fail to say so: then the directory counts.
            marker = self.store.marker(directory.step)
            if marker is None or marker.directory != directory.name:
                self.store.discard(directory)


def _whole(parts: Sequence[CheckpointFile | StorageError]) -> list[CheckpointFile]:
    """Return the records of all ranks; raise the first error among them."""
    for part in parts:
        if isinstance(part, StorageError):
            raise part
    return [part for part in parts if isinstance(part, CheckpointFile)]


def _warn_superseded(directory: StepDirectory) -> None:
    _log.warning(
        "checkpoint: another generation, or another process of this run, has already committed step %d",
        directory.step,
    )


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1).encode()
