"""Checkpoints that another run gave to this one: the very ones, or none.

The operator froze directory and digest when it admitted the run. Since then the directory may have gone, as
somebody deleted it or retention was faster than its ranks heard; or another run wrote one of its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from footplate_contracts.v1alpha1.references import LineageEntry
from footplate_trainer.checkpoint import place
from footplate_trainer.checkpoint.layout import MANIFEST_FILE
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.errors import UserMistake


def given(lineage: Iterable[LineageEntry] | None, field: str) -> StepCheckpoint | None:
    """What another run gave for `field` of the spec; None where that names a folder.

    UserMistake where it is not what was given, StorageError while where it lies does not answer.
    """
    entry = next((entry for entry in lineage or () if entry.field == field), None)
    if entry is None:
        return None
    named = f"{field}.run {entry.run}: checkpoint {entry.uri}, which this run was given at its admission,"
    checkpoint = place.step_directory(entry.uri)
    if checkpoint is None:
        raise UserMistake(
            f"{named} is not there; mount the volume of that run under the same path, or, where the"
            " checkpoint was removed, create this run anew with another one"
        )
    found = hashlib.sha256(checkpoint.content(MANIFEST_FILE)).hexdigest()
    if entry.digest not in (None, found):
        raise UserMistake(
            f"{named} is another one now: its {MANIFEST_FILE} has SHA-256 {found[:12]}…, and had"
            f" {str(entry.digest)[:12]}…; create this run anew with one of the checkpoints that are there"
        )
    return checkpoint
