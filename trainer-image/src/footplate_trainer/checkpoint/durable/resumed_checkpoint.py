"""Record of the checkpoint that a run starts from, which no generation of the run may have reported.

A run that starts at its last step writes no checkpoint: either it was applied anew in the folder of a run
that had trained to its end, or the rank that committed the checkpoint failed before it could report it. Runs
that wait for this one still need that record.
"""

from __future__ import annotations

import logging

from footplate_contracts.reports import CheckpointRecord, GenerationId
from footplate_trainer.checkpoint import layout
from footplate_trainer.checkpoint.layout import CheckpointRetention, committed_directory
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.checkpoint.store import CheckpointStore, storage_errors
from footplate_trainer.errors import CheckpointError, StorageError

_log = logging.getLogger(__name__)


def build_resumed_record(
    store: CheckpointStore, step: int, retention: CheckpointRetention, finder: GenerationId
) -> CheckpointRecord | None:
    """Return the record of the checkpoint of `step`, from which generation `finder` has started.

    None where there is none, and where storage does not respond: training does not depend on it. An earlier
    run of this name may have had later generations than this one; the record then names `finder`, because no
    receiver accepts from a coordinator a record of a later epoch than the coordinator's own.
    """
    try:
        with storage_errors(f"checkpoint folder {store.uri}"):
            markers = store.markers()
        marker = markers.get(step)
        directory = committed_directory(marker)
        if marker is None or directory is None:
            return None
        files = StepCheckpoint(store, directory.name).manifest().files
    except (StorageError, CheckpointError) as error:
        _log.warning("nobody is told of the checkpoint of step %d, which was found: %s", step, error)
        return None
    written = directory.generation
    return CheckpointRecord(
        step=step,
        uri=store.directory_uri(directory.name),
        time=marker.time,
        bytes=sum(file.bytes for file in files),
        generation=finder if written.is_newer_than(finder) else written,
        digest=marker.digest,
        validation_loss=marker.validation_loss,
        standing=layout.list_standing([known for known in markers.values() if known], retention) or None,
    )
