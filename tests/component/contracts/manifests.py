"""A good TrainingRun, and ways to make it less good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from footplate_contracts.names import API_VERSION


class Absent:
    """Stands for a field that is taken away."""


ABSENT = Absent()


def spec() -> dict[str, Any]:
    """The spec of a run that breaks no rule; every required field and few others."""
    return {
        "model": {
            "layers": 2,
            "hiddenSize": 64,
            "attentionHeads": 4,
            "vocabularySize": 4096,
            "contextLength": 64,
        },
        "data": {"uri": "/shared/data/python-docs"},
        "training": {
            "steps": 20,
            "globalBatchSize": 8,
            "microBatchSize": 2,
            "optimizer": {"learningRate": 1e-3},
        },
        "compute": {"profile": "local-cpu", "nodes": 2},
        "checkpoint": {"uri": "/shared/checkpoints/good"},
    }


def run_manifest(changes: Mapping[str, object] | None = None, *, name: str = "good") -> dict[str, Any]:
    """A whole TrainingRun with "dotted.path" -> value changed in its spec; ABSENT removes."""
    return {
        "apiVersion": API_VERSION,
        "kind": "TrainingRun",
        "metadata": {"name": name, "namespace": "default"},
        "spec": changed(spec(), changes or {}),
    }


def profile_manifest(spec: dict[str, Any], *, name: str = "good") -> dict[str, Any]:
    """A whole ComputeProfile."""
    return _of_the_cluster("ComputeProfile", name, spec)


def price_manifest(name: str, **spec: object) -> dict[str, Any]:
    """A whole PriceEntry; None leaves a field out."""
    usual = {"profile": "h100", "dollarsPerNodeHour": 30.5, "effectiveFrom": "2026-01-01T00:00:00Z"}
    stated = {field: value for field, value in {**usual, **spec}.items() if value is not None}
    return _of_the_cluster("PriceEntry", name, stated)


def usage_manifest(name: str) -> dict[str, Any]:
    """A whole UsageRecord, of a run of which no pod has been seen."""
    owner = {"kind": "TrainingRun", "namespace": "default", "name": "good", "uid": "a-uid"}
    return _of_the_cluster("UsageRecord", name, {"owner": owner})


def _of_the_cluster(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def changed(value: dict[str, Any], changes: Mapping[str, object]) -> dict[str, Any]:
    """`value` after the changes, in place."""
    for path, item in changes.items():
        *parents, last = path.split(".")
        here = value
        for parent in parents:
            here = here.setdefault(parent, {})
        if isinstance(item, Absent):
            del here[last]
        else:
            here[last] = item
    return value


def merge_patch(changes: Mapping[str, object]) -> dict[str, Any]:
    """The same changes as a JSON merge patch of the whole object."""
    nulls = {path: None if isinstance(item, Absent) else item for path, item in changes.items()}
    return {"spec": changed({}, nulls)}
