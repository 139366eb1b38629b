"""Where to go on: the newest committed checkpoint that is whole.

A marker promises that everything was written; what a disk made of it since is
another matter. All ranks verify a share of the checksums each, then agree. A
checkpoint that fails is reported, loses its marker (so that its step can be
committed again) and the one before is tried.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from torch.distributed.checkpoint.state_dict_loader import load as load_tensors

from footplate_contracts.runconfig import RunConfig
from footplate_trainer.checkpoint import layout
from footplate_trainer.checkpoint.index import TensorIndex
from footplate_trainer.checkpoint.record import TrainingState
from footplate_trainer.checkpoint.store import CheckpointStore, storage_errors
from footplate_trainer.checkpoint.tensors import TensorReader, loading_errors
from footplate_trainer.errors import StorageError, UserMistake
from footplate_trainer.parallel import agree
from footplate_trainer.parallel.world import World

# What decides which samples come next and what the moments mean.
_FIXED: Final = (
    "model",
    "data.seed",
    "training.seed",
    "training.globalBatchSize",
    "training.optimizer.name",
)


@dataclass(frozen=True)
class Found:
    """A committed directory that was proven whole."""

    store: CheckpointStore
    directory: str
    state: TrainingState

    @classmethod
    def of(cls, store: CheckpointStore, directory: str) -> Self:
        """With its state.json read."""
        return cls(store, directory, store.read(TrainingState, directory, layout.STATE_FILE))

    @property
    def place(self) -> str:
        """Where it is, as a person would write it."""
        return self.store.place(self.directory)


def find(store: CheckpointStore, world: World, report: Callable[[str], None]) -> Found | None:
    """The newest whole checkpoint, the same on every rank; None for a fresh start. Collective."""
    for step, directory in committed(store, world):
        damage = agreed_damage(store, directory, world)
        if damage is None and directory is not None:
            return Found.of(store, directory)
        if world.rank == 0:
            report(f"checkpoint of step {step} is damaged and is not used: {damage}")
            store.revoke(step)
    return None


def committed(store: CheckpointStore, world: World) -> list[tuple[int, str | None]]:
    """(step, directory) of each commit marker, newest first; None for a torn one. Collective."""

    def listed() -> list[tuple[int, str | None]]:
        with storage_errors(f"checkpoint folder {store.uri}"):
            return [(step, _directory(store, step)) for step in store.steps()]

    return agree.from_rank_0(listed, world.background)


def agreed_damage(store: CheckpointStore, directory: str | None, world: World) -> str | None:
    """What is wrong with a directory, in words; None when nothing is. Each rank reads a share. Collective.

    StorageError, on every rank, when only some of them see it: then nothing is known of the directory.
    """
    with storage_errors(f"checkpoint {directory} in {store.uri}"):
        mine = store.first_damage(directory, world.rank, world.size)
        seen = directory is not None and store.has_manifest(directory)
    told = agree.gather((mine, seen), world.background)
    blind = [rank for rank, (_, sees) in enumerate(told) if not sees]
    if 0 < len(blind) < world.size:
        raise StorageError(
            f"checkpoint {directory} in {store.uri} is not there for rank {blind[0]}, and is for others: "
            "that is not one folder for all ranks; mount a volume that they share"
        )
    return next((damage for damage, _ in told if damage), None)


def load(found: Found, tensors: Mapping[str, Any], world: World) -> None:
    """Fill `tensors` in place from the checkpoint, whatever layout wrote it. Collective.

    Raises, on every rank, what `loading_errors` does.
    """
    what = f"checkpoint {found.place}"
    with storage_errors(what), loading_errors(what):
        index = found.store.read(TensorIndex, found.directory, layout.INDEX_FILE)
        reader = TensorReader(found.store.folder, found.directory, index)
        load_tensors(dict(tensors), storage_reader=reader, process_group=world.background)


def check_same_run(config: RunConfig, found: Found) -> None:
    """UserMistake when the checkpoint `found` cannot be gone on from with `config`."""
    written = found.store.read(RunConfig, found.directory, layout.RUN_FILE)
    stored, given = written.to_json(), config.to_json()
    if (written.run.namespace, written.run.name) != (config.run.namespace, config.run.name):
        raise UserMistake(
            f"checkpoint.uri {found.store.uri} holds checkpoints of run {written.run.name}; "
            f"give run {config.run.name} a folder of its own"
        )
    for path in _FIXED:
        before, now = _at(stored, path), _at(given, path)
        if before != now:
            raise UserMistake(
                f"{path} is {json.dumps(now)}, but the checkpoint in {found.place} was trained with "
                f"{json.dumps(before)}; restore it, or use another checkpoint.uri"
            )


def _directory(store: CheckpointStore, step: int) -> str | None:
    marker = store.marker(step)
    return marker.directory if marker else None


def _at(tree: Any, path: str) -> Any:
    for key in path.split("."):
        tree = tree.get(key)
    return tree
