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
from pathlib import Path
from typing import Any, Final

import torch.distributed as dist
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict_loader import load as load_tensors

from footplate_contracts.runconfig import RunConfig
from footplate_trainer.checkpoint import layout
from footplate_trainer.checkpoint.layout import Manifest
from footplate_trainer.checkpoint.record import TrainingState
from footplate_trainer.checkpoint.store import CheckpointStore, storage_errors
from footplate_trainer.errors import UserMistake
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

    folder: Path
    state: TrainingState


def find(store: CheckpointStore, world: World, report: Callable[[str], None]) -> Found | None:
    """The newest whole checkpoint, the same on every rank; None for a fresh start. Collective."""
    candidates: list[Any] = [None]
    if world.rank == 0:
        with storage_errors(f"checkpoint folder {store.folder}"):
            candidates = [[(step, _directory(store, step)) for step in store.steps()]]
    dist.broadcast_object_list(candidates, group_src=0, group=world.background)
    for step, directory in candidates[0]:
        damage = _agree(_damage(store, directory, world), world)
        if damage is None:
            return Found(store.folder / directory, read_state(store.folder / directory))
        if world.rank == 0:
            report(f"checkpoint of step {step} is damaged and is not used: {damage}")
            store.revoke(step)
    return None


def newest_whole(store: CheckpointStore, report: Callable[[str], None]) -> Found | None:
    """As find(), for a reader without process group, who leaves everything as it is."""
    for step in store.steps():
        directory = _directory(store, step)
        damage = _first_damage(store, directory, 0, 1)
        if damage is None and directory is not None:
            return Found(store.folder / directory, read_state(store.folder / directory))
        report(f"checkpoint of step {step} is damaged and is not used: {damage}")
    return None


def load(found: Found, tensors: Mapping[str, Any], world: World) -> None:
    """Fill `tensors` in place from the checkpoint, whatever layout wrote it. Collective."""
    load_tensors(dict(tensors), storage_reader=FileSystemReader(found.folder), process_group=world.background)


def check_same_run(config: RunConfig, folder: Path) -> None:
    """UserMistake when the checkpoint in `folder` cannot be gone on from with `config`."""
    stored = json.loads((folder / layout.RUN_FILE).read_text())
    given = config.to_json()
    if (stored["run"]["namespace"], stored["run"]["name"]) != (config.run.namespace, config.run.name):
        raise UserMistake(
            f"checkpoint.uri {folder.parent} holds checkpoints of run {stored['run']['name']}; "
            f"give run {config.run.name} a folder of its own"
        )
    for path in _FIXED:
        before, now = _at(stored, path), _at(given, path)
        if before != now:
            raise UserMistake(
                f"{path} is {json.dumps(now)}, but the checkpoint in {folder} was trained with "
                f"{json.dumps(before)}; restore it, or use another checkpoint.uri"
            )


def read_state(folder: Path) -> TrainingState:
    """state.json of a checkpoint directory."""
    return TrainingState.from_json(json.loads((folder / layout.STATE_FILE).read_text()))


def _directory(store: CheckpointStore, step: int) -> str | None:
    marker = store.marker(step)
    return marker.directory if marker else None


def _damage(store: CheckpointStore, directory: str | None, world: World) -> str | None:
    with storage_errors(f"checkpoint {directory} in {store.folder}"):
        return _first_damage(store, directory, world.rank, world.size)


def _first_damage(store: CheckpointStore, directory: str | None, rank: int, size: int) -> str | None:
    """What is wrong with this rank's share of the files, in words; None when nothing is."""
    if directory is None:
        return "its commit marker is torn"
    try:
        manifest: Manifest = store.manifest(directory)
    except ValueError as error:
        return str(error)
    found = (store.damage(directory, record) for record in manifest.files[rank::size])
    return next((damage for damage in found if damage), None)


def _agree(damage: str | None, world: World) -> str | None:
    damages: list[str | None] = [None] * world.size
    dist.all_gather_object(damages, damage, group=world.background)
    return next((one for one in damages if one), None)


def _at(tree: Any, path: str) -> Any:
    for key in path.split("."):
        tree = tree.get(key)
    return tree
