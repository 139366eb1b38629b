"""Reads the coordinator pod from a run's status; pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from footplate_api import lenient
from footplate_api.ports import Manifest

_LONGEST_UID: Final = 64


class Coordinator(NamedTuple):
    """A pod that coordinates this run, or did; the operator assigned `epoch` to it."""

    pod_uid: str
    run_uid: str
    namespace: str
    name: str
    epoch: int


def told(manifest: Manifest) -> Coordinator | None:
    """Return the coordinator that a run's status names; None while the operator has not seen its pod.

    The run is one that runs.record could read.
    """
    metadata = manifest["metadata"]
    said = lenient.mapping(lenient.mapping(manifest, "status"), "coordinator")
    pod_uid, epoch = lenient.text(said, "podUID", _LONGEST_UID), lenient.whole(said, "epoch")
    if not pod_uid or epoch is None or epoch < 0:
        return None
    return Coordinator(pod_uid, metadata["uid"], metadata["namespace"], metadata["name"], epoch)


def all_told(manifests: Iterable[Manifest]) -> list[Coordinator]:
    """Return the coordinators that `manifests` name, each once, sorted."""
    return sorted({found for manifest in manifests if (found := told(manifest)) is not None})
