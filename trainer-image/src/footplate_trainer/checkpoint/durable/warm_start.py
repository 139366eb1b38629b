"""Warm start: initializes a run with the state of another run's checkpoint.

The other run is only read: a damaged step is skipped and retains its marker. The weights must match, name by
name and shape by shape; the optimizer's moments are loaded if all of them match, and start at zero otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Final

from torch import Tensor

from footplate_contracts.v1alpha1.compute import ResumeFrom
from footplate_trainer.checkpoint.durable import resume
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.checkpoint.store import CheckpointSource
from footplate_trainer.checkpoint.tensor_reader import load_tensors, read_index
from footplate_trainer.errors import CheckpointError, UserMistake
from footplate_trainer.input_folder import folder_read_error
from footplate_trainer.model.linear import is_adapter_parameter
from footplate_trainer.parallel import object_collectives
from footplate_trainer.parallel.world import DistributedContext
from footplate_trainer.storage import is_local

_log = logging.getLogger(__name__)

Shapes = dict[str, tuple[int, ...]]
"""Tensor name -> its whole shape."""

_FIELD: Final = "resumeFrom.uri"
_SHOWN: Final = 5  # of many misfits, so that the message stays readable
_MODEL, _OPTIMIZER = "model.", "optimizer."


def find_source(asked: ResumeFrom, world: DistributedContext) -> StepCheckpoint:
    """Find the checkpoint that `asked` refers to, verified, the same on every rank. Collective.

    Raises, on every rank, UserMistake for a missing step and for a folder that cannot be read,
    CheckpointError when none is whole, and StorageError when storage does not respond.
    """
    store = open_source_folder(asked)
    candidates = resume.resolve_markers(store, world, lambda: _markers(store, asked))
    steps = [step for step, _ in candidates]
    if asked.step is not None and asked.step not in steps:
        there = f"its committed steps are {', '.join(map(str, sorted(steps)))}" if steps else "it has no step"
        raise UserMistake(f"resumeFrom.step {asked.step} is not in {asked.uri}; {there}")
    for step, checkpoint in candidates:
        if asked.step in (None, step):
            damage = resume.agreed_damage(checkpoint, world)
            if checkpoint is not None and damage is None:
                return checkpoint
            if world.rank == 0:
                _log.warning("resumeFrom: skipping the damaged checkpoint of step %d: %s", step, damage)
    remedy = "set uri to the checkpoint.uri of a run that has one"
    if asked.step is None and not is_local(asked.uri):
        remedy += ", or also set resumeFrom.step if the server cannot list files"
    raise CheckpointError(f"{_FIELD} {asked.uri} has no intact checkpoint to start from; {remedy}")


def iter_source_checkpoints(asked: ResumeFrom) -> Iterator[StepCheckpoint]:
    """Yield the committed checkpoints that `asked` may refer to, newest first, without verification.

    Not collective. Raises what `find_source` does for a folder that cannot be read.
    """
    store = open_source_folder(asked)
    for step, marker in _markers(store, asked):
        if marker is not None and asked.step in (None, step):
            yield StepCheckpoint(store, marker.directory)


def open_source_folder(asked: ResumeFrom) -> CheckpointSource:
    """Open the folder that `asked` names; UserMistake for a URI of an unsupported scheme."""
    try:
        return CheckpointSource(asked.uri)
    except ValueError as error:
        raise UserMistake(f"{_FIELD}: {error}") from error


def _markers(store: CheckpointSource, asked: ResumeFrom) -> resume.Markers:
    """Read the marker of the requested step, without a listing; of all, newest first, where it is missing."""
    try:
        if asked.step is not None and (marker := store.marker(asked.step)) is not None:
            return [(asked.step, marker)]
        return [(step, store.marker(step)) for step in store.steps()]
    except OSError as error:
        raise folder_read_error(_FIELD, asked.uri, error) from None


def load_source(source: StepCheckpoint, tensors: Mapping[str, Tensor], world: DistributedContext) -> bool:
    """Fill `tensors` in place; return whether the optimizer's moments were loaded. Collective.

    Raises, on every rank, UserMistake that lists the tensors that do not match.
    """
    there: Shapes = {name: tensor.shape for name, tensor in read_index(source).tensors.items()}
    here = _all_shapes(tensors, world)
    if not any(
        map(is_adapter_parameter, there)
    ):  # then the weights there are what the adapters here stand beside
        here = {name: shape for name, shape in here.items() if not is_adapter_parameter(name)}
    problems = find_mismatches(_of(there, _MODEL), _of(here, _MODEL))
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise UserMistake(f"resumeFrom {source.name} does not match: {'; '.join(problems[:_SHOWN])}{more}")
    whole = not find_mismatches(_of(there, _OPTIMIZER), _of(here, _OPTIMIZER))
    kept = here if whole else _of(here, _MODEL)
    load_tensors(source, {name: tensor for name, tensor in tensors.items() if name in kept}, world.background)
    return whole


def find_mismatches(there: Shapes, here: Shapes) -> list[str]:
    """List, as one text each, the tensors that differ between the checkpoint and this run; pure."""
    return [
        f"{name}: {_shown(there, name)} in the checkpoint, {_shown(here, name)} in this run"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    ]


def _shown(shapes: Shapes, name: str) -> str:
    return f"shape {list(shapes[name])}" if name in shapes else "not present"


def _of(shapes: Shapes, prefix: str) -> Shapes:
    return {name: shape for name, shape in shapes.items() if name.startswith(prefix)}


def _all_shapes(tensors: Mapping[str, Tensor], world: DistributedContext) -> Shapes:
    """Gather the shapes of all ranks' tensors; a rank may have only some of the layers."""
    mine: Shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    shapes = object_collectives.all_gather(mine, world.background)
    return {name: shape for held in shapes for name, shape in held.items()}
