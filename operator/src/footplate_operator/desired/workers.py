"""Worker pods: which should exist, and what each is made of.

A place in the gang is an index; whoever fills it is an incarnation. A pod that
failed, was deleted or is merely Terminating is replaced at once by the next
incarnation: waiting for a Terminating pod means waiting for a dead node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from footplate_contracts.names import (
    FIRST_SPARE,
    INCARNATION_LABEL,
    INDEX_LABEL,
    PROFILE_LABEL,
    ROLE_LABEL,
    RUN_UID_LABEL,
    SECRET_CERTIFICATE_KEY,
    SECRET_TOKEN_KEY,
    Env,
    ExitCode,
    Role,
    spare_pod_name,
    worker_pod_name,
)
from footplate_contracts.v1alpha1.computeprofile import ComputeProfileSpec
from footplate_operator.desired.children import metadata
from footplate_operator.desired.pods import (
    HOME,
    SHM_VOLUME,
    as_env,
    base_mounts,
    base_volumes,
    common_spec,
    container_security,
    keep_annotations,
    merged_env,
    shared_environment,
    tolerate_lost_node,
)
from footplate_operator.desired.revision import Revision
from footplate_operator.kinds import Json
from footplate_operator.observed import PodView
from footplate_operator.policies.backoff import Life, not_before
from footplate_operator.run import Run

GRACE_BEYOND_CHECKPOINT = 30  # seconds that a pod has after its emergency checkpoint
# For a coordinator that was not heard yet to say what a worker told it before it ended.
WHY: Final = timedelta(seconds=10)


@dataclass(frozen=True)
class Loss:
    """A place whose pod is gone; `pod` is what is left of it, if anything."""

    index: int
    incarnation: int  # of the substitute
    pod: PodView | None


@dataclass(frozen=True)
class WorkerPlan:
    """What to make now, and what was lost."""

    missing: tuple[tuple[int, int], ...] = ()  # (index, incarnation)
    losses: tuple[Loss, ...] = ()
    current: tuple[PodView, ...] = ()  # the newest pod of each place that needs no substitute
    counter: int = 0  # highest incarnation once `missing` exist
    due: datetime | None = None  # the earliest substitute that has to wait
    stood_in: int = 0  # places that a spare takes in a moment

    @property
    def complete(self) -> bool:
        """Whether every place is filled."""
        return not self.missing and not self.stood_in and self.due is None

    @property
    def succeeded(self) -> bool:
        """Whether every worker ended with success, which they do only when the run is over."""
        return self.complete and bool(self.current) and all(pod.phase == "Succeeded" for pod in self.current)


@dataclass(frozen=True)
class Places:
    """What is known of the gang. `lost`: (index, incarnation) that are held to be gone."""

    nodes: int
    counter: int  # `status.incarnation`
    launched: bool  # an attempt is open: a missing pod is a loss, not a beginning
    fresh: bool  # no worker was ever made
    lost: frozenset[tuple[int, int]] = field(default_factory=frozenset)
    making: bool = True  # False: it was just refused, so nothing may be claimed to be made
    unheard: bool = False  # the coordinator that serves has not said anything yet
    spares: int = 0  # that wait, and take places of `seats` by themselves when those are lost
    seats: frozenset[int] = field(default_factory=frozenset)  # of the newest generation


def plan(places: Places, pods: Sequence[PodView], now: datetime) -> WorkerPlan:
    """Which workers should be made now.

    A loss is counted when its substitute is made; a substitute that exists but
    is newer than the status knows was made just before a crash, and its loss is
    counted now.
    """
    by_index: dict[int, list[PodView]] = {index: [] for index in range(places.nodes)}
    for pod in pods:
        by_index.setdefault(pod.index, []).append(pod)
    highest = max([places.counter, *(pod.incarnation for pod in pods)])
    missing: list[tuple[int, int]] = []
    losses: list[Loss] = []
    current: list[PodView] = []
    waits: list[datetime] = []
    stood_in = 0
    for index in range(places.nodes):
        tenants = sorted(by_index[index], key=lambda pod: pod.incarnation)
        newest = tenants[-1] if tenants else None
        if newest is not None and _holds(newest, places):
            current.append(newest)
            if places.launched and newest.incarnation > places.counter:
                losses.append(Loss(index, newest.incarnation, tenants[-2] if len(tenants) > 1 else None))
            continue
        if index in places.seats and stood_in < places.spares:
            stood_in += 1
            continue
        due = not_before([Life(pod.created, pod.end) for pod in tenants if pod.ended], now)
        if newest is not None and places.unheard and newest.exit_code == ExitCode.CONFIG:
            due = max(due, newest.end + WHY)  # what ends the run should be told by who knows why
        if due > now:
            waits.append(due)
            continue
        first = places.fresh and newest is None
        incarnation = 0 if first else highest + 1
        missing.append((index, incarnation))
        if places.launched and places.making:
            losses.append(Loss(index, incarnation, newest))
    made = [incarnation for _, incarnation in missing] if places.making else []
    counter = max([highest, *made])
    soonest = min(waits) if waits else None
    return WorkerPlan(tuple(missing), tuple(losses), tuple(current), counter, soonest, stood_in)


def _holds(pod: PodView, places: Places) -> bool:
    """Whether `pod` fills its place, now or in a moment."""
    if pod.phase == "Succeeded":
        return True
    return pod.live and (pod.index, pod.incarnation) not in places.lost


def pod(run: Run, revision: Revision, index: int, incarnation: int, coordinator_address: str) -> Json:
    """The manifest of one worker; `coordinator_address` is a hint, empty where it is not known."""
    name = worker_pod_name(run.name, index, incarnation)
    labels = place_labels(Role.WORKER, index, incarnation)
    return _pod(run, revision, name, labels, _place(index, incarnation, coordinator_address))


def spare(run: Run, revision: Revision, number: int, incarnation: int, coordinator_address: str) -> Json:
    """The manifest of spare `number`: a worker without a place."""
    name = spare_pod_name(run.name, number, incarnation)
    labels = place_labels(Role.SPARE, number, incarnation)
    place = _place(FIRST_SPARE + number, incarnation, coordinator_address)
    return _pod(run, revision, name, labels, place)


def place_labels(role: Role, index: int, incarnation: int) -> dict[str, str]:
    """What a pod does and where; the labels that a spare changes when it takes a place."""
    return {ROLE_LABEL: role.value, INDEX_LABEL: str(index), INCARNATION_LABEL: str(incarnation)}


def _place(index: int, incarnation: int, coordinator_address: str) -> dict[str, str]:
    place: dict[str, str] = {Env.WORKER_INDEX: str(index), Env.WORKER_INCARNATION: str(incarnation)}
    if coordinator_address:
        place[Env.COORDINATOR_ADDRESS] = coordinator_address
    return place


def _pod(
    run: Run, revision: Revision, name: str, labels: Mapping[str, str], place: Mapping[str, str]
) -> Json:
    trainer = run.spec.trainer
    body = metadata(run, name)
    body["labels"] = dict(trainer.pod_labels) | body["labels"]
    body["labels"] |= {**labels, PROFILE_LABEL: revision.frozen.profile_name}
    body["annotations"] = dict(trainer.pod_annotations) | keep_annotations()
    grace = run.spec.checkpoint.emergency_deadline_seconds + GRACE_BEYOND_CHECKPOINT
    spec = common_spec(run, name, grace)
    spec |= _scheduling(run, revision.frozen.profile)
    spec["containers"] = [_container(run, revision, place)]
    spec["volumes"] = _volumes(run, revision)
    if trainer.service_account_name:
        spec["serviceAccountName"] = trainer.service_account_name
    return {"apiVersion": "v1", "kind": "Pod", "metadata": body, "spec": spec}


def _container(run: Run, revision: Revision, place: Mapping[str, str]) -> Json:
    trainer, frozen = run.spec.trainer, revision.frozen
    policy = trainer.image_pull_policy or frozen.defaults.image_pull_policy
    users = [each.to_json() for each in trainer.env]
    ours = as_env(_environment(run, frozen.profile, place))
    container: Json = {
        "name": "trainer",
        "image": trainer.image or frozen.defaults.trainer_image,
        "imagePullPolicy": policy.value,
        "env": merged_env(ours, users),
        "resources": _resources(run, frozen.profile),
        "securityContext": container_security(),
        "volumeMounts": _mounts(run),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if trainer.env_from:
        container["envFrom"] = [dict(each) for each in trainer.env_from]
    return container


def _environment(run: Run, profile: ComputeProfileSpec, place: Mapping[str, str]) -> dict[str, str]:
    variables = shared_environment(run) | {
        **place,
        "TORCHINDUCTOR_CACHE_DIR": "/tmp/torchinductor",
        "TRITON_CACHE_DIR": "/tmp/triton",
        "HF_HOME": f"{HOME}/huggingface",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    if profile.network.interfaces:
        variables["NCCL_SOCKET_IFNAME"] = profile.network.interfaces
        variables["GLOO_SOCKET_IFNAME"] = profile.network.interfaces
    return variables | profile.network.nccl


def _resources(run: Run, profile: ComputeProfileSpec) -> Json:
    """Profile first, then the run's own; devices are requested as limits, as they cannot be overcommitted."""
    own = run.spec.trainer.resources or {}
    devices: dict[str, str] = {}
    if profile.gpu is not None:
        devices[profile.gpu.resource] = str(profile.gpu.count)
    if profile.network.rdma is not None:
        devices[profile.network.rdma.resource] = str(profile.network.rdma.count)
    requests = dict(profile.resources.get("requests", {})) | dict(own.get("requests", {})) | devices
    limits = dict(profile.resources.get("limits", {})) | dict(own.get("limits", {})) | devices
    return {name: value for name, value in (("requests", requests), ("limits", limits)) if value}


def _volumes(run: Run, revision: Revision) -> list[Json]:
    gibibytes = revision.frozen.profile.network.shared_memory_gib
    volumes = base_volumes(run, revision, [SECRET_TOKEN_KEY, SECRET_CERTIFICATE_KEY])
    size = f"{int(gibibytes * 1024)}Mi"
    volumes.append({"name": SHM_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": size}})
    return volumes + [dict(each) for each in run.spec.trainer.volumes]


def _mounts(run: Run) -> list[Json]:
    users = [dict(each) for each in run.spec.trainer.volume_mounts]
    taken = {str(each.get("mountPath", "")).rstrip("/") for each in users}
    ours = [*base_mounts(), {"name": SHM_VOLUME, "mountPath": "/dev/shm"}]
    return [each for each in ours if each["mountPath"] not in taken] + users


def _scheduling(run: Run, profile: ComputeProfileSpec) -> Json:
    scheduling = profile.scheduling
    mates = {"matchLabels": {RUN_UID_LABEL: run.uid, ROLE_LABEL: Role.WORKER.value}}
    affinity: Json = {
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {
                    "weight": 100,
                    "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": mates},
                }
            ]
        }
    }
    fields = [
        {"key": "metadata.name", "operator": "NotIn", "values": [node]}  # takes one value only
        for node in run.spec.resilience.exclude_nodes
    ]
    if fields:
        affinity["nodeAffinity"] = {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": fields}]}
        }
    spec: Json = {
        "tolerations": [*(dict(each) for each in scheduling.tolerations), *tolerate_lost_node(None)],
        "affinity": affinity,
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": scheduling.topology_key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": mates,
            }
        ],
    }
    if scheduling.node_selector:
        spec["nodeSelector"] = dict(scheduling.node_selector)
    priority = run.spec.priority_class_name or scheduling.priority_class_name
    if priority:
        spec["priorityClassName"] = priority
    return spec
