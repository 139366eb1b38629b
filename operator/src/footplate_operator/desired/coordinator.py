"""The coordinator pod: small, without GPU or user volumes, and cheap to replace.

Its replacement gets the next epoch, which is how agents tell the new one from a
stale one that comes back from behind a partition. Workers are not touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from footplate_contracts.names import (
    COORDINATOR_PORT,
    EPOCH_LABEL,
    ROLE_LABEL,
    RUN_SECRET_MOUNT,
    SECRET_CERTIFICATE_KEY,
    SECRET_PRIVATE_KEY_KEY,
    SECRET_TOKEN_KEY,
    Env,
    Role,
    coordinator_pod_name,
)
from footplate_operator.desired.children import metadata
from footplate_operator.desired.housekeeping import COORDINATOR_GRACE
from footplate_operator.desired.pods import (
    as_env,
    base_mounts,
    base_volumes,
    common_spec,
    container_security,
    keep_annotations,
    shared_environment,
    tolerate_lost_node,
)
from footplate_operator.desired.revision import Revision, size, terms_to_begin_with
from footplate_operator.kinds import Json
from footplate_operator.observed import PodView
from footplate_operator.policies.backoff import Life, not_before
from footplate_operator.run import Run

GRACE_SECONDS: Final = COORDINATOR_GRACE  # to hand the last telemetry over
# It holds no GPU and a second one does no harm, so Kubernetes may evict it from a lost node by itself.
LOST_NODE_SECONDS: Final = 5


@dataclass(frozen=True)
class CoordinatorPlan:
    """`current` serves; where there is none, `epoch` is to be made, not before `due`."""

    current: PodView | None
    epoch: int
    due: datetime


def plan(pods: Sequence[PodView], known: int, begun: bool, now: datetime) -> CoordinatorPlan:
    """Which coordinator should exist.

    Args:
        pods: the run's coordinator pods, any state.
        known: the highest epoch that the status knows.
        begun: the run is under way. When it is resumed, the coordinator from before
            the suspension has closed it and cannot open it again.
    """
    lowest = known if begun else known + 1
    serving = [pod for pod in pods if pod.live and pod.epoch >= lowest]
    current = max(serving, key=lambda pod: pod.epoch, default=None)
    if current is not None:
        return CoordinatorPlan(current, current.epoch, now)
    epoch = max([known, *(pod.epoch for pod in pods)]) + 1
    due = not_before([Life(pod.created, pod.end) for pod in pods if pod.ended], now)
    return CoordinatorPlan(None, epoch, due)


def pod(run: Run, revision: Revision, epoch: int) -> Json:
    """The manifest of the coordinator of `epoch`."""
    name = coordinator_pod_name(run.name, epoch)
    body = metadata(run, name)
    body["labels"] |= {ROLE_LABEL: Role.COORDINATOR.value, EPOCH_LABEL: str(epoch)}
    body["annotations"] = keep_annotations()
    profile = revision.frozen.profile
    keys = [SECRET_TOKEN_KEY, SECRET_CERTIFICATE_KEY, SECRET_PRIVATE_KEY_KEY]
    spec = common_spec(run, name, GRACE_SECONDS)
    spec |= {
        "containers": [_container(run, revision, epoch)],
        "volumes": base_volumes(run, revision, keys),
        "tolerations": [*profile.scheduling.tolerations, *tolerate_lost_node(LOST_NODE_SECONDS)],
    }
    priority = run.spec.priority_class_name or profile.scheduling.priority_class_name
    if priority:
        spec["priorityClassName"] = priority
    return {"apiVersion": "v1", "kind": "Pod", "metadata": body, "spec": spec}


def _container(run: Run, revision: Revision, epoch: int) -> Json:
    defaults = revision.frozen.defaults
    variables = shared_environment(run) | {
        Env.TLS_KEY_FILE: f"{RUN_SECRET_MOUNT}/{SECRET_PRIVATE_KEY_KEY}",
        Env.COORDINATOR_EPOCH: str(epoch),
        Env.SIZE: size(run).model_dump_json(by_alias=True, exclude_none=True),
        Env.TERMS: terms_to_begin_with(run).model_dump_json(by_alias=True, exclude_none=True),
    }
    if defaults.api_url:
        variables[Env.API_URL] = defaults.api_url
    return {
        "name": "coordinator",
        "image": defaults.coordinator_image,
        "imagePullPolicy": defaults.image_pull_policy.value,
        "env": as_env(variables),
        "ports": [{"name": "https", "containerPort": COORDINATOR_PORT}],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": container_security(),
        "volumeMounts": base_mounts(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
