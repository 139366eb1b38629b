"""Every manifest that the operator writes for a run, letter by letter."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from footplate_contracts.names import ConditionType, Phase, Reason, WorkerId
from footplate_operator.keys.credentials import RunCredentials
from footplate_operator.runtime.conditions import NewCondition, condition
from footplate_operator.runtime.events import ObjectEvent, manifest
from footplate_operator.runtime.kinds import Json
from footplate_operator.trainingrun import events
from footplate_operator.trainingrun.manifests import children, coordinator
from footplate_operator.trainingrun.observation import ApiEndpoint
from footplate_operator.trainingrun.run import TRAINING_RUN
from tests.support.golden import ROOT, as_yaml, assert_golden
from tests.support.operator_runs import H100, frozen, run, spare_pod, worker_pod

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
ADDRESS = "10.0.0.9"
BUNDLE = "who vouches"
API = ApiEndpoint("https://api", BUNDLE)
CREDENTIALS = RunCredentials("a token", b"a certificate", b"a private key")

# Whatever a user may say about pods, all of it.
OWN: Final[dict[str, Any]] = {
    "compute": {"profile": "h100", "nodes": 2, "minNodes": 1, "maxNodes": 4, "spares": 1},
    "resilience": {"excludeNodes": ["broken-1", "broken-2"], "hang": {"factor": 5, "floorSeconds": 120}},
    "checkpoint": {
        "uri": "s3://bucket/run",
        "everySteps": 50,
        "keepLast": 2,
        "emergencyDeadlineSeconds": 120,
    },
    "priorityClassName": "urgent",
    "trainer": {
        "image": "mine:2",
        "imagePullPolicy": "Always",
        "imagePullSecrets": [{"name": "registry"}],
        "env": [
            {"name": "OMP_NUM_THREADS", "value": "4"},
            {"name": "API_KEY", "valueFrom": {"secretKeyRef": {"name": "mine", "key": "key"}}},
            {"name": "FOOTPLATE_COORDINATOR_HOST", "value": "is not theirs to say"},
        ],
        "envFrom": [{"configMapRef": {"name": "mine"}}],
        "resources": {"requests": {"cpu": "16"}, "limits": {"ephemeral-storage": "100Gi"}},
        "volumes": [{"name": "shared", "persistentVolumeClaim": {"claimName": "shared"}}],
        "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
        "serviceAccountName": "reader",
        "podLabels": {"team": "a"},
        "podAnnotations": {"note": "mine"},
    },
}


# Two keys of one Secret: one for whoever rewards, the other for the ranks; and one that is in no Secret.
REWARDED: Final[dict[str, Any]] = {
    "reward": {
        "functions": [{"name": "judge", "function": {"name": "mine:judge", "secrets": ["JUDGE_KEY", "OPEN"]}}]
    },
    "trainer": {
        "env": [
            {"name": name, "valueFrom": {"secretKeyRef": {"name": "mine", "key": name.lower()}}}
            for name in ("JUDGE_KEY", "AWS_SECRET_ACCESS_KEY")
        ]
        + [{"name": "OPEN", "value": "for all to see"}],
    },
}

# Whatever a profile may say about pods, and what a run may then override.
SITE: Final[dict[str, Any]] = {
    "gpu": {**H100["gpu"], "resourceClaim": "gpus"},
    "processesPerNode": 8,
    "backend": "nccl",
    "network": {"hostNetwork": True, "sharedMemoryGiB": 64},
    "resources": {
        "requests": {"cpu": "64", "memory": "512Gi"},
        "limits": {"cpu": "64", "memory": "512Gi", "hugepages-2Mi": "1Gi", "vpc.amazonaws.com/efa": "32"},
    },
    "resourceClaims": [
        {"name": "gpus", "resourceClaimTemplateName": "eight-gpus"},
        {"name": "imex", "resourceClaimTemplateName": "compute-domain"},
    ],
    "scheduling": {"schedulerName": "volcano", "nodeSelector": {"gpu": "gb200"}},
    "runtimeClassName": "nvidia",
    "securityContext": {"runAsUser": 0, "supplementalGroups": [70000]},
    "securityProfile": "privileged",
    "capabilities": ["IPC_LOCK"],
    "podLabels": {"site": "a"},
    "podAnnotations": {"k8s.v1.cni.cncf.io/networks": "rdma-0,rdma-1"},
    "overridable": ["securityContext", "tolerations", "nodeSelector", "runtimeClassName", "schedulerName"],
    "podTemplate": {
        "metadata": {"annotations": {"sidecar.istio.io/inject": "false"}},
        "spec": {
            "containers": [
                {
                    "name": "trainer",
                    "env": [{"name": "OMP_NUM_THREADS", "value": "8"}],
                    "volumeMounts": [{"name": "hugepages", "mountPath": "/dev/hugepages"}],
                },
                {"name": "metrics", "image": "metrics:1"},
            ],
            "initContainers": [{"name": "check", "image": "check:1", "restartPolicy": "Always"}],
            "volumes": [{"name": "hugepages", "emptyDir": {"medium": "HugePages-2Mi"}}],
        },
    },
}
SITED: Final[dict[str, Any]] = {
    "trainer": {
        "securityContext": {"runAsUser": 4711, "runAsGroup": 4711},
        "tolerations": [{"key": "team", "operator": "Exists"}],
        "nodeSelector": {"zone": "b"},
        "runtimeClassName": "kata",
        "schedulerName": "kai",
    },
}

PLAIN, PLAIN_REVISION = run(), frozen(run())
LARGE, LARGE_REVISION = run(**OWN), frozen(run(**OWN), **H100)


def phase_event() -> Json | None:
    ready = condition(NewCondition(ConditionType.READY, True, Reason.TRAINING, "all workers train"), 1, NOW)
    after = PLAIN.status.model_copy(
        update={"phase": Phase.RUNNING, "last_transition_time": "2026-01-31T12:00:00Z", "conditions": [ready]}
    )
    return event_manifest(events.phase_event(PLAIN, after))


def held_up_event() -> Json | None:
    message = "pod tiny-w0-0: no such image"
    held = condition(NewCondition(ConditionType.PROGRESSING, False, Reason.ERR_IMAGE_PULL, message), 1, NOW)
    after = PLAIN.status.model_copy(
        update={"phase": Phase.STARTING, "last_transition_time": "2026-01-31T12:00:00Z", "conditions": [held]}
    )
    return event_manifest(events.held_up_event(PLAIN, after))


def event_manifest(event: ObjectEvent | None) -> Json | None:
    return manifest(TRAINING_RUN, PLAIN, event, "operator-1", NOW) if event else None


MANIFESTS: Final[dict[str, Callable[[], Json | None]]] = {
    "secret": lambda: children.secret(PLAIN, CREDENTIALS),
    "config-map": lambda: children.config_map(PLAIN, PLAIN_REVISION),
    "config-map-own": lambda: children.config_map(LARGE, LARGE_REVISION),
    "service": lambda: children.service(PLAIN),
    "disruption-budget": lambda: children.disruption_budget(PLAIN),
    "network-policy": lambda: children.network_policy(PLAIN, "footplate-system"),
    "controller-revision": lambda: children.controller_revision(LARGE, LARGE_REVISION),
    "coordinator": lambda: coordinator.pod(PLAIN, PLAIN_REVISION, 1, API),
    "coordinator-own": lambda: coordinator.pod(LARGE, LARGE_REVISION, 3, API),
    "api-ca": lambda: children.api_ca(PLAIN, BUNDLE),
    "worker": lambda: worker_pod(PLAIN, PLAIN_REVISION, WorkerId(0, 0), ""),
    "worker-own": lambda: worker_pod(LARGE, LARGE_REVISION, WorkerId(1, 4), ADDRESS),
    "worker-site": lambda: worker_pod(PLAIN, frozen(PLAIN, **SITE), WorkerId(0, 0), ""),
    "worker-sited": lambda: worker_pod(run(**SITED), frozen(run(**SITED), **SITE), WorkerId(0, 0), ""),
    "coordinator-site": lambda: coordinator.pod(PLAIN, frozen(PLAIN, **SITE), 1, API),
    "worker-rewarded": lambda: worker_pod(run(**REWARDED), frozen(run(**REWARDED)), WorkerId(0, 0), ""),
    "spare": lambda: spare_pod(LARGE, LARGE_REVISION, WorkerId(0, 5), ADDRESS),
    "event-phase": phase_event,
    "event-held-up": held_up_event,
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifest(name: str) -> None:
    body = MANIFESTS[name]()
    assert body is not None
    assert_golden(f"manifests/{name}.yaml", as_yaml(body))


def test_no_golden_manifest_is_left_over() -> None:
    assert sorted(path.stem for path in (ROOT / "manifests").iterdir()) == sorted(MANIFESTS)
