"""Runs as the operator decodes them, and what their pods are made of."""

from __future__ import annotations

from typing import Any, Final

from footplate_contracts.names import Role, WorkerId
from footplate_operator.profiles import decode_profile
from footplate_operator.runtime.kinds import Json
from footplate_operator.trainingrun.manifests import worker
from footplate_operator.trainingrun.revision import Revision, admit
from footplate_operator.trainingrun.run import Run, decode
from tests.support.operator_fakes import DEFAULTS, RELEASE, profile_manifest, run_manifest

H100: Final[dict[str, Any]] = {
    "gpu": {
        "count": 8,
        "product": "H100",
        "memoryGiB": 80,
        "peakTflops": {"bf16": 989, "fp32": 67},
        "tdpWatts": 700,
    },
    "processesPerNode": 8,
    "backend": "nccl",
    "resources": {"requests": {"cpu": "32"}, "limits": {"memory": "512Gi"}},
    "network": {
        "rdma": {"resource": "rdma/hca", "count": 8},
        "interfaces": "eth0",
        "nccl": {"NCCL_NET": "IB"},
        "sharedMemoryGiB": 64,
    },
    "scheduling": {
        "nodeSelector": {"gpu": "h100"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "topologyKey": "topology.kubernetes.io/rack",
        "priorityClassName": "training",
    },
}


def run(**spec: Any) -> Run:
    """A run that was admitted an hour ago."""
    body = run_manifest(**spec)
    body["metadata"] |= {"uid": "uid-1", "creationTimestamp": "2026-01-31T11:00:00Z"}
    return decode(body)


def frozen(subject: Run, **profile: Any) -> Revision:
    """Its first revision, on nodes of `profile`."""
    return admit(subject, decode_profile(profile_manifest(**profile)), DEFAULTS, [], RELEASE)


# -- one manifest ----------------------------------------------------------------------------------


def worker_pod(run: Run, revision: Revision, slot: WorkerId, *more: Any, **named: Any) -> Json:
    """The manifest of one worker."""
    (made,) = worker.pods(run, revision, Role.WORKER, [slot], *more, **named)
    return made


def spare_pod(run: Run, revision: Revision, slot: WorkerId, *more: Any, **named: Any) -> Json:
    """The manifest of one spare."""
    (made,) = worker.pods(run, revision, Role.SPARE, [slot], *more, **named)
    return made
