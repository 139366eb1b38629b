"""JSON schema of a run's manifest, for OpenAPI."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

_SPEC: Final = Path(__file__).with_name("trainingrunspec.json")  # generated from the contracts by `make gen`
_TEXTS: Final[dict[str, Any]] = {"type": "object", "additionalProperties": {"type": "string"}}
_NAME: Final = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"
_METADATA: Final[dict[str, Any]] = {
    "type": "object",
    "description": "Metadata of a Kubernetes object; `name` or `generateName` is required.",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 253, "pattern": _NAME},
        "generateName": {"type": "string", "maxLength": 253, "description": "prefix of a generated name"},
        "namespace": {"type": "string", "description": "absent, or the namespace in the path"},
        "labels": _TEXTS,
        "annotations": _TEXTS,
    },
}


def specific(schemas: dict[str, Any]) -> dict[str, Any]:
    """Return `schemas` with Kubernetes' own schema in RunSubmission, where pydantic allows anything."""
    kept = schemas["RunSubmission"]
    parts = {"metadata": "TrainingRunMetadata", "spec": "TrainingRunSpec"}
    referring = {field: {"$ref": f"#/components/schemas/{name}"} for field, name in parts.items()}
    submission = {**kept, "properties": {**kept["properties"], **referring}}
    return {
        **schemas,
        "RunSubmission": submission,
        "TrainingRunMetadata": _METADATA,
        "TrainingRunSpec": spec(),
    }


def spec() -> dict[str, Any]:
    """Return the schema of a run's spec, with the CRD's fields and bounds."""
    read: dict[str, Any] = json.loads(_SPEC.read_text())
    return read
