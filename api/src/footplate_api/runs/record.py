"""A TrainingRun as Kubernetes writes it -> a row of ours; pure.

The object may come from a newer or older operator, so it is read leniently:
what is missing or of another type is absent, never an error. Only metadata that
the API server itself guarantees is relied upon.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from footplate_api.ports import Manifest


def row(manifest: Manifest, seen_at: datetime) -> dict[str, Any]:
    """Column -> value for the table `runs`, of a run that exists.

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
    spec, status = _mapping(manifest, "spec"), _mapping(manifest, "status")
    progress = _mapping(status, "progress")
    return {
        **identity,
        "stage": _text(spec, "stage"),
        "phase": _text(status, "phase"),
        "step": _whole(progress, "step"),
        "total_steps": _whole(progress, "totalSteps"),
        "tokens": _whole(progress, "tokens"),
        "loss": _number(progress, "loss"),
        "deleted_at": None,
        "seen_at": seen_at,
        "labels": _mapping(metadata, "labels"),
        "annotations": _mapping(metadata, "annotations"),
        "spec": spec,
        "status": status,
    }


def _mapping(parent: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def _text(parent: Mapping[str, Any], key: str) -> str | None:
    value = parent.get(key)
    return value[:32] if isinstance(value, str) else None


def _whole(parent: Mapping[str, Any], key: str) -> int:
    value = parent.get(key)
    return value if isinstance(value, int) and abs(value) < 2**63 else 0


def _number(parent: Mapping[str, Any], key: str) -> float | None:
    value = parent.get(key)
    return float(value) if isinstance(value, int | float) else None
