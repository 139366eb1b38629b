"""Finds the checkpoint to resume from: the newest committed checkpoint that is whole.

A marker promises that everything was written; a disk may have damaged it since. Each rank verifies a share of
the checksums, then all agree. A checkpoint that fails is logged, loses its marker (so that its step can be
committed again), and the one before it is tried.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any, Final

from footplate_contracts.runconfig import RunConfig
from footplate_trainer.checkpoint.layout import CommitMarker, StepDirectory
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.checkpoint.store import CheckpointSource, CheckpointStore, storage_errors
from footplate_trainer.errors import CheckpointDamaged, StorageError, UserMistake
from footplate_trainer.parallel import object_collectives
from footplate_trainer.parallel.world import DistributedContext

_log = logging.getLogger(__name__)

Markers = list[tuple[int, CommitMarker | None]]
"""Steps and what their commit markers say; None for a torn one."""

# What decides which samples come next, where rollouts begin, and what the moments mean.
_FIXED: Final = (
    "model",
    "data.seed",
    "training.seed",
    "training.globalBatchSize",
    "training.optimizer.name",
    "rollout.generationBatchSize",
    "rollout.numGenerations",
    "reinforcement.numIterations",
)


def find_resume_checkpoint(
    store: CheckpointStore, world: DistributedContext, revoked: Callable[[StepDirectory], None]
) -> StepCheckpoint | None:
    """Find the newest whole checkpoint, the same on every rank; None for a fresh start. Collective.

    Calls `revoked`, on rank 0, for each checkpoint that has lost its marker because it is damaged.
    """
    for step, checkpoint in list_committed(store, world):
        damage = agreed_damage(checkpoint, world)
        if damage is None:
            return checkpoint
        if world.rank == 0:
            _log.warning("skipping the damaged checkpoint of step %d: %s", step, damage)
            store.revoke(step)
            if gone := StepDirectory.parse(checkpoint.directory) if checkpoint else None:
                revoked(gone)
    return None


def list_committed(
    store: CheckpointStore, world: DistributedContext
) -> list[tuple[int, StepCheckpoint | None]]:
    """List step and checkpoint of each commit marker, newest first; None for a torn one. Collective."""

    def markers() -> Markers:
        with storage_errors(f"checkpoint folder {store.uri}"):
            return [(step, store.marker(step)) for step in store.steps()]

    return resolve_markers(store, world, markers)


def resolve_markers(
    store: CheckpointSource, world: DistributedContext, markers: Callable[[], Markers]
) -> list[tuple[int, StepCheckpoint | None]]:
    """List step and checkpoint of each of the `markers` that rank 0 finds in `store`. Collective."""

    def named() -> list[tuple[int, str | None]]:
        return [(step, marker.directory if marker else None) for step, marker in markers()]

    return [
        (step, StepCheckpoint(store, directory) if directory else None)
        for step, directory in object_collectives.compute_on_rank_0(named, world.background)
    ]


def iter_readable(store: CheckpointSource) -> Iterator[StepCheckpoint]:
    """Yield the committed checkpoints with a whole manifest, newest first; other files are not verified.

    Not collective. CheckpointError for a checkpoint of a format that this release does not read.
    """
    with storage_errors(f"checkpoint folder {store.uri}"):
        for step in store.steps():
            marker = store.marker(step)
            checkpoint = StepCheckpoint(store, marker.directory) if marker else None
            if checkpoint is not None and _has_whole_manifest(checkpoint):
                yield checkpoint


def _has_whole_manifest(checkpoint: StepCheckpoint) -> bool:
    try:
        checkpoint.manifest()
    except CheckpointDamaged:
        return False
    return True


def agreed_damage(checkpoint: StepCheckpoint | None, world: DistributedContext) -> str | None:
    """Describe the damage of a committed checkpoint; None when it is whole. Each rank verifies a share.

    Collective. StorageError, on every rank, when only some ranks see it: then its state is unknown.
    """
    if checkpoint is None:
        return "its commit marker is torn"
    mine = checkpoint.first_damage(world.rank, world.size), checkpoint.has_manifest()
    told = object_collectives.all_gather(mine, world.background)
    blind = [rank for rank, (_, sees) in enumerate(told) if not sees]
    if 0 < len(blind) < world.size:
        raise StorageError(
            f"checkpoint {checkpoint.directory} in {checkpoint.store.uri} is missing on rank {blind[0]} but "
            "not on other ranks: the ranks do not share this folder; mount a shared volume"
        )
    return next((damage for damage, _ in told if damage), None)


def check_same_run(config: RunConfig, found: StepCheckpoint) -> RunConfig:
    """Return the RunConfig that `found` was written with; UserMistake when `config` cannot continue it."""
    written = found.config()
    stored, given = written.to_json(), config.to_json()
    if not is_same_run(written, config):
        raise UserMistake(
            f"checkpoint.uri {found.store.uri} holds checkpoints of run {written.run.name}; set another "
            f"checkpoint.uri for run {config.run.name}"
        )
    for path in _FIXED:
        before, now = _at(stored, path), _at(given, path)
        if before != now:
            raise UserMistake(
                f"{path} is {json.dumps(now)}, but the checkpoint in {found.name} was trained with "
                f"{json.dumps(before)}; restore it, or set another checkpoint.uri"
            )
    return written


def is_same_run(written: RunConfig, config: RunConfig) -> bool:
    """Return whether both have one name; a run that is applied anew continues its predecessor."""
    return (written.run.namespace, written.run.name) == (config.run.namespace, config.run.name)


def _at(tree: Any, path: str) -> Any:
    """Return the value at the dotted `path`; None where the run has no such section."""
    for key in path.split("."):
        tree = None if tree is None else tree.get(key)
    return tree
