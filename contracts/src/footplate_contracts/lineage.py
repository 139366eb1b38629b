"""References from a spec to other runs, and their replacement by resolved folders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from footplate_contracts.v1alpha1.references import (
    GenerateRunReference,
    LineageEntry,
    ReferenceField,
    RunReference,
)
from footplate_contracts.v1alpha1.trainingrun import TrainingRunSpec
from footplate_contracts.v1alpha1.types import ApiModel

_PARTS: Final[dict[ReferenceField, tuple[str, ...]]] = {
    ReferenceField.INIT_FROM: ("init_from",),
    ReferenceField.PREFERENCE: ("preference", "reference"),
    ReferenceField.REWARD: ("reward",),
    ReferenceField.REINFORCEMENT: ("reinforcement", "reference"),
    ReferenceField.VALUE: ("reinforcement", "value"),
    ReferenceField.DATA: ("data",),
}


def run_references(spec: TrainingRunSpec) -> dict[ReferenceField, RunReference | GenerateRunReference]:
    """Return the runs that `spec` names, by the field that names them."""
    named = {}
    for field, path in _PARTS.items():
        part: Any = spec
        for name in path:
            part = getattr(part, name, None)
        if part is not None and part.run is not None:
            named[field] = part.run
    return named


def with_resolved_uris(spec: TrainingRunSpec, lineage: Sequence[LineageEntry]) -> TrainingRunSpec:
    """Replace each run that `spec` names by its folder; ValueError where `lineage` has none for one."""
    found = {entry.field: entry for entry in lineage}
    for field, reference in run_references(spec).items():
        if field not in found:
            raise ValueError(f"{field}.run {reference.name} is not resolved to a folder")
        spec = _with_uri(spec, _PARTS[field], found[field].uri)
    return spec


def _with_uri(part: Any, path: Sequence[str], uri: str) -> Any:
    if not path:
        assert isinstance(part, ApiModel)
        return part.model_copy(update={"uri": uri, "run": None})
    inner = _with_uri(getattr(part, path[0]), path[1:], uri)
    return part.model_copy(update={path[0]: inner})
