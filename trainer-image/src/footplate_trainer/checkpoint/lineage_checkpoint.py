"""Checkpoints that the run's lineage pins: exactly the checkpoint that the operator recorded, or an error.

The operator froze the directory and the digest when it admitted the run. Since then the directory may have
disappeared, because somebody deleted it or retention removed it before its ranks learned of the pin, or
another run may have written a directory of the same name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from footplate_contracts.v1alpha1.references import LineageEntry
from footplate_trainer.checkpoint import lookup
from footplate_trainer.checkpoint.layout import MANIFEST_FILE
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.errors import UserMistake


def find_pinned_checkpoint(lineage: Iterable[LineageEntry] | None, field: str) -> StepCheckpoint | None:
    """Return the checkpoint that `lineage` pins for `field` of the spec; None where it pins none.

    UserMistake if the checkpoint is missing or differs from the recorded digest, StorageError if its storage
    does not respond.
    """
    entry = next((entry for entry in lineage or () if entry.field == field), None)
    if entry is None:
        return None
    named = f"{field}.run {entry.run}: checkpoint {entry.uri}, which this run was given at its admission,"
    checkpoint = lookup.open_step_directory(entry.uri)
    if checkpoint is None:
        raise UserMistake(
            f"{named} is not there; mount the volume of that run under the same path, or, where the"
            " checkpoint was removed, create this run anew with another one"
        )
    found = hashlib.sha256(checkpoint.read_bytes(MANIFEST_FILE)).hexdigest()
    if entry.digest not in (None, found):
        raise UserMistake(
            f"{named} is another one now: its {MANIFEST_FILE} has SHA-256 {found[:12]}…, and had"
            f" {str(entry.digest)[:12]}…; create this run anew with one of the checkpoints that are there"
        )
    return checkpoint
