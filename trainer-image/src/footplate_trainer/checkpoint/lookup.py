"""Resolves a checkpoint that the user names: a run's folder, or one step directory in it.

A step directory is self-contained: it may have been copied elsewhere and renamed.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from footplate_contracts.v1alpha1.references import LineageEntry
from footplate_trainer.checkpoint.layout import MANIFEST_FILE
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.checkpoint.store import CheckpointSource, storage_errors
from footplate_trainer.errors import CheckpointError, StorageError, UserMistake
from footplate_trainer.input_folder import folder_read_error
from footplate_trainer.storage import NoCredentials, is_local, local_path

_log = logging.getLogger(__name__)


def locate(name: str) -> StepCheckpoint:
    """Open the step directory `name`, or the newest committed one in a run's folder."""
    return open_step_directory(name) or list_committed(name)[0]


def open_step_directory(name: str) -> StepCheckpoint | None:
    """Open the step directory `name`; None for a run's folder."""
    folder, _, directory = _whole(name).rpartition("/")
    if not folder.strip("/") or folder.endswith(":/"):  # the root of a file system, or a bucket itself
        return None
    checkpoint = StepCheckpoint(_store(folder), directory)
    with _reading(name):
        return checkpoint if checkpoint.has_manifest() else None


def find_newest_whole(name: str) -> StepCheckpoint:
    """Find what `locate` finds, verified: skip damaged checkpoints of a run's folder with a warning.

    Changes nothing. CheckpointError when none is whole, or when the step directory `name` is damaged.
    """
    asked = open_step_directory(name)
    if asked is not None:
        damage = asked.first_damage()
        if damage is not None:
            raise CheckpointError(f"checkpoint {asked.name} is damaged: {damage}; use another step")
        return asked
    for checkpoint in list_committed(name):
        damage = checkpoint.first_damage()
        if damage is None:
            return checkpoint
        _log.warning("skipping the damaged checkpoint %s: %s", checkpoint.name, damage)
    raise CheckpointError(f"no checkpoint in {name} is intact")


def list_committed(name: str) -> list[StepCheckpoint]:
    """List all committed steps in a run's folder, newest first; CheckpointError when there is none."""
    store = _store(name)
    with _reading(name), storage_errors(name):
        markers = [store.marker(step) for step in store.steps()]
    checkpoints = [StepCheckpoint(store, marker.directory) for marker in markers if marker]
    if not checkpoints:
        raise CheckpointError(
            f"{name} has no committed checkpoint; use a run's checkpoint.uri or a step directory"
        )
    return checkpoints


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Turn a StorageError that is caused by missing permissions or credentials into a user's error."""
    try:
        yield
    except StorageError as error:
        if isinstance(error.__cause__, (PermissionError, NoCredentials)):
            raise folder_read_error("CHECKPOINT", name, error.__cause__) from None
        raise


def _store(uri: str) -> CheckpointSource:
    try:
        return CheckpointSource(uri)
    except ValueError as error:
        raise UserMistake(str(error)) from error


def _whole(name: str) -> str:
    return str(local_path(name).absolute()) if is_local(name) else name.rstrip("/")


def find_pinned_checkpoint(lineage: Iterable[LineageEntry] | None, field: str) -> StepCheckpoint | None:
    """Return the checkpoint that `lineage` pins for `field` of the spec; None where it pins none.

    UserMistake if the checkpoint is missing or differs from the recorded digest, StorageError if its storage
    does not respond.
    """
    entry = next((entry for entry in lineage or () if entry.field == field), None)
    if entry is None:
        return None
    named = f"{field}.run {entry.run}: checkpoint {entry.uri}, which was set when this run was admitted,"
    checkpoint = open_step_directory(entry.uri)
    if checkpoint is None:
        raise UserMistake(
            f"{named} is missing; mount that run's volume under the same path, or, if the checkpoint was "
            "removed, create this run again with another checkpoint"
        )
    found = hashlib.sha256(checkpoint.read_bytes(MANIFEST_FILE)).hexdigest()
    if entry.digest not in (None, found):
        raise UserMistake(
            f"{named} has changed: its {MANIFEST_FILE} has SHA-256 {found[:12]}…, and had "
            f"{str(entry.digest)[:12]}…; create this run again with an existing checkpoint"
        )
    return checkpoint
