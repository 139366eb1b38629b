"""Converts a TrainingRun of Kubernetes into its rows; pure.

The object may come from a newer or older operator, so a value that is missing or of another type is absent,
not an error. The conversion relies only on metadata that the API server itself guarantees.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from footplate_api.kubernetes.client import Manifest
from footplate_api.labels.run_labels import spec_digest
from footplate_api.registry import end_time
from footplate_api.serialization import tolerant_json


def row(manifest: Manifest, seen_at: datetime) -> dict[str, Any]:
    """Return the columns of an existing run in the tables `runs` and `run_specs`.

    Raises ValueError when the object is none that an API server would send.
    """
    try:
        metadata = manifest["metadata"]
        identity = {
            "uid": metadata["uid"],
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "resource_version": int(metadata["resourceVersion"]),
            "generation": int(metadata.get("generation", 0)),
            "created_at": datetime.fromisoformat(metadata["creationTimestamp"]),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a TrainingRun of an API server: {error!r}") from error
    spec, status = tolerant_json.mapping(manifest, "spec"), tolerant_json.mapping(manifest, "status")
    asked = {
        "labels": tolerant_json.mapping(metadata, "labels"),
        "annotations": tolerant_json.mapping(metadata, "annotations"),
        "spec": spec,
    }
    progress = tolerant_json.mapping(status, "progress")
    end = end_time.end_from_status(identity["created_at"], status)
    return {
        **identity,
        "stage": tolerant_json.text(spec, "stage"),
        "phase": tolerant_json.text(status, "phase"),
        "step": tolerant_json.get_int(progress, "step") or 0,
        "total_steps": tolerant_json.get_int(progress, "totalSteps") or 0,
        "tokens": tolerant_json.get_int(progress, "tokens") or 0,
        "loss": tolerant_json.number(progress, "loss"),
        "deleted_at": None,
        "ended_at": end.at,
        "end_estimated": end.estimated,
        "seen_at": seen_at,
        **asked,
        "digest": spec_digest(asked),
        "status": status,
    }


def deleted(manifest: Manifest, heard_at: datetime) -> dict[str, Any]:
    """Return the row of a run with a deletion event; `manifest` is its last state. Raises as row() does."""
    made = row(manifest, heard_at)
    end = end_time.end_of_deleted(
        end_time.RunEnd(made["ended_at"], made["end_estimated"]), manifest, heard_at
    )
    return {**made, "deleted_at": heard_at, "ended_at": end.at, "end_estimated": end.estimated}
