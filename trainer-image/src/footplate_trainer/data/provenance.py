"""Checks that a run's data set is still the data set which the operator recorded.

When the operator admitted the run, it recorded the folder and, if it was reported, its manifest's digest.
Since then a user may have deleted the data set, or another run may have written one in its place.
"""

from __future__ import annotations

import hashlib

from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.references import ReferenceField
from footplate_trainer.data.check import open_data_storage, read_manifest
from footplate_trainer.errors import UserMistake


def check_provenance(config: RunConfig) -> None:
    """Raise UserMistake if the data of `config` is not what its recorded run wrote.

    Does nothing for other data. Raises the errors of reading a manifest, too. Not collective.
    """
    entry = next((entry for entry in config.lineage or () if entry.field == ReferenceField.DATA), None)
    if entry is None:
        return
    named = f"data.run {entry.run}: the data set {entry.uri}, which this run was given at its admission,"
    remedy = "create this run anew, or name the folder as data.uri"
    content, manifest = read_manifest(open_data_storage(entry.uri))
    writer = manifest.generated
    if writer is None or writer.uid != entry.uid:
        by = "no run" if writer is None else f"run {writer.run} with uid {writer.uid}"
        raise UserMistake(f"{named} is of {by} now, and was of uid {entry.uid}; {remedy}")
    found = hashlib.sha256(content).hexdigest()
    if entry.digest not in (None, found):
        raise UserMistake(
            f"{named} is another one now: its manifest.json has SHA-256 {found[:12]}…, and had"
            f" {str(entry.digest)[:12]}…; {remedy}"
        )


def manifest_digest(uri: str) -> str:
    """Return the SHA-256 of the manifest at `uri`, and so of its data set; raises the read errors."""
    return hashlib.sha256(read_manifest(open_data_storage(uri))[0]).hexdigest()
