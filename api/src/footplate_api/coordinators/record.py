"""Reads the coordinator pod from a run's status; pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from footplate_api.kubernetes.client import Manifest
from footplate_api.serialization import tolerant_json

_LONGEST_UID: Final = 64


class CoordinatorPod(NamedTuple):
    """A pod that coordinates this run, or did; the operator assigned `epoch` to it."""

    pod_uid: str
    run_uid: str
    namespace: str
    name: str
    epoch: int


def coordinator_of(manifest: Manifest) -> CoordinatorPod | None:
    """Return the coordinator that a run's status names; None while the operator has not seen its pod.

    The run is one that runs.record could read.
    """
    metadata = manifest["metadata"]
    said = tolerant_json.mapping(tolerant_json.mapping(manifest, "status"), "coordinator")
    pod_uid, epoch = tolerant_json.text(said, "podUID", _LONGEST_UID), tolerant_json.get_int(said, "epoch")
    if not pod_uid or epoch is None or epoch < 0:
        return None
    return CoordinatorPod(pod_uid, metadata["uid"], metadata["namespace"], metadata["name"], epoch)


def coordinators_of(manifests: Iterable[Manifest]) -> list[CoordinatorPod]:
    """Return the coordinators that `manifests` name, each once, sorted."""
    return sorted({found for manifest in manifests if (found := coordinator_of(manifest)) is not None})
