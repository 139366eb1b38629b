"""`podTemplate` of a ComputeProfile: the part of its schema by which it is merged.

Its other fields are passed through. An admission policy of the chart refuses fields that a template must
not set: CRD rules cannot read a field without a schema.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field

TRAINER_CONTAINER: Final = "trainer"

Schema = dict[str, Any]

_OPEN: Final[Schema] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_TEXTS: Final[Schema] = {
    "type": "object",
    "description": "merged by key",
    "maxProperties": 64,
    "additionalProperties": {"type": "string", "maxLength": 8192},
}


def _named(description: str, most: int, **fields: Schema) -> Schema:
    """Return the schema of a list whose items have names, and `fields` beside others of a pod."""
    name = {"type": "string", "maxLength": 256, "description": "as in a pod"}
    item = {**_OPEN, "description": "as in a pod", "properties": {"name": name, **fields}}
    return {
        "type": "array",
        "description": description,
        "maxItems": most,
        "items": {**item, "required": ["name"]},
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    }


_METADATA: Final = {
    "type": "object",
    "description": "labels and annotations",
    "properties": {"labels": _TEXTS, "annotations": _TEXTS},
}
_LISTS: Final = {
    "containers": _named(
        "merged by name: trainer or sidecars", 8, env=_named("environment of trainer, merged by name", 128)
    ),
    "initContainers": _named("appended; with restartPolicy Always they are sidecars", 8),
    "volumes": _named("appended", 32),
}
_SPEC: Final = {**_OPEN, "description": "as in a pod", "properties": _LISTS}

PodTemplate = Annotated[
    dict[str, Any], Field(json_schema_extra={"properties": {"metadata": _METADATA, "spec": _SPEC}})
]
