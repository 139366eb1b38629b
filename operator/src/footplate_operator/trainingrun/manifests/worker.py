"""Manifests of workers and spares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from footplate_contracts.names import (
    FIRST_SPARE,
    PROFILE_LABEL,
    REWARD_SECRET_PREFIX,
    SECRET_CERTIFICATE_KEY,
    SECRET_TOKEN_KEY,
    Env,
    Role,
    WorkerId,
    spare_pod_name,
    worker_pod_name,
)
from footplate_contracts.v1alpha1.computeprofile import ComputeProfileSpec
from footplate_contracts.v1alpha1.placement import HOSTNAME
from footplate_contracts.v1alpha1.pods import SecurityProfile
from footplate_contracts.v1alpha1.podtemplate import TRAINER_CONTAINER
from footplate_contracts.v1alpha1.reward import secret_names
from footplate_operator.runtime.kinds import Json
from footplate_operator.runtime.pods import (
    HOME,
    as_env,
    container_security,
    merged_env,
    no_eviction_annotations,
    pod_security,
    tolerate_lost_node,
)
from footplate_operator.trainingrun.manifests.placement import affinity, select_domain
from footplate_operator.trainingrun.manifests.pod import (
    SHM_VOLUME,
    base_mounts,
    base_volumes,
    common_spec,
    security_context,
    shared_environment,
)
from footplate_operator.trainingrun.manifests.template import merged
from footplate_operator.trainingrun.metadata import match_role, metadata
from footplate_operator.trainingrun.packing import TargetDomain
from footplate_operator.trainingrun.revision import Revision, RevisionData
from footplate_operator.trainingrun.run import Run
from footplate_operator.trainingrun.slots import slot_labels

GRACE_BEYOND_CHECKPOINT: Final = 30  # seconds that a pod has after its emergency checkpoint


def pods(
    run: Run,
    revision: Revision,
    role: Role,
    workers: Sequence[WorkerId],
    coordinator_address: str,
    avoided: frozenset[str] = frozenset(),
    target: TargetDomain | None = None,
) -> list[Json]:
    """Build the manifests of `workers`, which differ in their slots alone.

    Args:
        role: WORKER, or SPARE: workers whose slots, beyond the gang's, are their numbers.
        coordinator_address: a hint; empty if it is not known.
        avoided: nodes that take none of them.
        target: the topology domain of all of them.
    """
    if not workers:
        return []
    first = _pod(run, revision, role, workers[0], coordinator_address, avoided, target)
    return [first, *(_like(first, run, role, worker) for worker in workers[1:])]


def _like(first: Json, run: Run, role: Role, worker: WorkerId) -> Json:
    """Copy `first`, the manifest of a pod of this role, for another slot."""
    name, slot = _name(run, role, worker), _slot(role, worker)
    containers = [
        {**container, "env": [_told(variable, slot) for variable in container["env"]]}
        if container["name"] == TRAINER_CONTAINER
        else container
        for container in first["spec"]["containers"]
    ]
    labels = first["metadata"]["labels"] | slot_labels(role, worker)
    return {
        **first,
        "metadata": {**first["metadata"], "name": name, "labels": labels},
        "spec": {**first["spec"], "hostname": name, "containers": containers},
    }


def _told(variable: Json, slot: Mapping[str, str]) -> Json:
    return {**variable, "value": slot[variable["name"]]} if variable["name"] in slot else variable


def _name(run: Run, role: Role, worker: WorkerId) -> str:
    name = spare_pod_name if role is Role.SPARE else worker_pod_name
    return name(run.name, worker.index, worker.incarnation)


def _slot(role: Role, worker: WorkerId) -> dict[str, str]:
    """Return the variables from which an agent reads its slot."""
    index = worker.index + (FIRST_SPARE if role is Role.SPARE else 0)
    return {Env.WORKER_INDEX: str(index), Env.WORKER_INCARNATION: str(worker.incarnation)}


def _pod(
    run: Run,
    revision: Revision,
    role: Role,
    worker: WorkerId,
    coordinator_address: str,
    avoided: frozenset[str],
    target: TargetDomain | None,
) -> Json:
    trainer, profile = run.spec.trainer, revision.frozen.profile
    standard = profile.security_profile or SecurityProfile.RESTRICTED
    name, slot = _name(run, role, worker), _slot(role, worker)
    if coordinator_address:
        slot[Env.COORDINATOR_ADDRESS] = coordinator_address
    body = metadata(run, name)
    template = profile.pod_template or {}
    further = template.get("metadata") or {}
    labels = (profile.pod_labels or {}) | further.get("labels", {}) | trainer.pod_labels | body["labels"]
    body["labels"] = {**labels, **slot_labels(role, worker), PROFILE_LABEL: revision.frozen.profile_name}
    annotations = (profile.pod_annotations or {}) | further.get("annotations", {}) | trainer.pod_annotations
    body["annotations"] = annotations | no_eviction_annotations()
    grace = run.spec.checkpoint.emergency_deadline_seconds + GRACE_BEYOND_CHECKPOINT
    security = pod_security(security_context(run, profile), standard)
    spec = common_spec(run, revision.frozen.defaults, name, grace, security, general_secrets=False)
    spec |= _scheduling(run, profile, avoided, target)
    spec["containers"] = [_container(run, revision, slot, standard)]
    spec["volumes"] = _volumes(run, revision)
    spec |= _site(run, profile)
    if trainer.service_account_name:
        spec["serviceAccountName"] = trainer.service_account_name
    spec = _overridden(merged(spec, template, standard), run)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": body, "spec": spec}


def _site(run: Run, profile: ComputeProfileSpec) -> Json:
    """Return the pod fields that run and profile pass through, if stated."""
    trainer = run.spec.trainer
    found: Json = {}
    if runtime := trainer.runtime_class_name or profile.runtime_class_name:
        found["runtimeClassName"] = runtime
    if scheduler := trainer.scheduler_name or profile.scheduling.scheduler_name:
        found["schedulerName"] = scheduler
    if profile.network.host_network:
        found |= {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
    if profile.resource_claims:
        found["resourceClaims"] = [claim.to_json() for claim in profile.resource_claims]
    return found


def _container(run: Run, revision: Revision, slot: Mapping[str, str], standard: SecurityProfile) -> Json:
    trainer, frozen = run.spec.trainer, revision.frozen
    policy = trainer.image_pull_policy or frozen.defaults.image_pull_policy
    return {
        "name": TRAINER_CONTAINER,
        "image": trainer.image or frozen.defaults.trainer_image,
        "imagePullPolicy": policy.value,
        "env": as_env(_environment(run, frozen, slot)),
        "resources": _resources(run, frozen.profile),
        "securityContext": container_security(standard, frozen.profile.capabilities or ()),
        "volumeMounts": [*base_mounts(), {"name": SHM_VOLUME, "mountPath": "/dev/shm"}],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _overridden(spec: Json, run: Run) -> Json:
    """Return `spec`, whose first container trains, with the run's variables, mounts and volumes."""
    trainer = run.spec.trainer
    container, *sidecars = spec["containers"]
    mounts, sources = map(dict, trainer.volume_mounts), map(dict, trainer.env_from)
    taken = {str(mount.get("mountPath", "")).rstrip("/") for mount in trainer.volume_mounts}
    kept = [mount for mount in container["volumeMounts"] if mount["mountPath"] not in taken]
    env = merged_env(container["env"], _variables(run))
    container = {**container, "env": env, "volumeMounts": [*kept, *mounts]}
    if found := [*container.get("envFrom", ()), *sources]:
        container["envFrom"] = found
    volumes = [*spec["volumes"], *map(dict, trainer.volumes)]
    return {**spec, "containers": [container, *sidecars], "volumes": volumes}


def _variables(run: Run) -> list[Json]:
    """Return `trainer.env`; a reward function's Secret variables get a prefix that no rank looks for.

    Such a variable without a Secret is refused at admission (`policies/reward_secrets.py`), and left out of
    the pods of runs admitted before that check existed.
    """
    reward = run.spec.reward
    wanted = set() if reward is None else set(secret_names(reward.functions))
    variables = []
    for variable in run.spec.trainer.env:
        body = variable.to_json()
        if variable.name in wanted:
            if "secretKeyRef" not in (variable.value_from or {}):
                continue
            body["name"] = f"{REWARD_SECRET_PREFIX}{variable.name}"
        variables.append(body)
    return variables


def _environment(run: Run, frozen: RevisionData, slot: Mapping[str, str]) -> dict[str, str]:
    variables = shared_environment(run, frozen.defaults) | {
        **slot,
        "TORCHINDUCTOR_CACHE_DIR": "/tmp/torchinductor",
        "TRITON_CACHE_DIR": "/tmp/triton",
        "HF_HOME": f"{HOME}/huggingface",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    network = frozen.profile.network
    if network.rdma is not None:
        variables[Env.RDMA] = network.rdma.resource
    if network.interfaces:
        variables["NCCL_SOCKET_IFNAME"] = network.interfaces
        variables["GLOO_SOCKET_IFNAME"] = network.interfaces
    return variables | network.nccl


def _resources(run: Run, profile: ComputeProfileSpec) -> Json:
    """Merge resources, the run's over the profile's, with devices as limits: they cannot be overcommitted."""
    own = run.spec.trainer.resources or {}
    devices: dict[str, str] = {}
    if profile.gpu is not None and profile.gpu.resource_claim is None:
        devices[profile.gpu.resource] = str(profile.gpu.count)
    if profile.network.rdma is not None:
        devices[profile.network.rdma.resource] = str(profile.network.rdma.count)
    requests = dict(profile.resources.get("requests", {})) | dict(own.get("requests", {})) | devices
    limits = dict(profile.resources.get("limits", {})) | dict(own.get("limits", {})) | devices
    claims = [{"name": claim.name} for claim in profile.resource_claims or ()]
    stated = (("requests", requests), ("limits", limits), ("claims", claims))
    return {name: value for name, value in stated if value}


def _volumes(run: Run, revision: Revision) -> list[Json]:
    gibibytes = revision.frozen.profile.network.shared_memory_gib
    ids = security_context(run, revision.frozen.profile)
    volumes = base_volumes(run, revision, [SECRET_TOKEN_KEY, SECRET_CERTIFICATE_KEY], ids)
    size = f"{int(gibibytes * 1024)}Mi"
    volumes.append({"name": SHM_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": size}})
    return volumes


def _scheduling(
    run: Run, profile: ComputeProfileSpec, avoided: frozenset[str], target: TargetDomain | None
) -> Json:
    scheduling = profile.scheduling.with_placement(run.spec.compute.placement)
    # Two workers of one lost node are substituted as fast as one; with their coordinator they wait for a
    # successor first.
    apart = {Role.COORDINATOR: 100, Role.WORKER: 20}
    never = [*run.spec.resilience.exclude_nodes, *sorted(avoided)]
    spec: Json = {
        "tolerations": [
            *map(dict, [*scheduling.tolerations, *(run.spec.trainer.tolerations or ())]),
            *tolerate_lost_node(None),
        ],
        "affinity": affinity(run.uid, apart, never, target),
    }
    if scheduling.spread_key != HOSTNAME:  # over nodes they are spread already
        spec["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": scheduling.spread_key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": match_role(run.uid, Role.WORKER)},
            }
        ]
    stated = scheduling.node_selector | (run.spec.trainer.node_selector or {})
    if selector := stated | select_domain(target):
        spec["nodeSelector"] = selector
    priority = run.spec.priority_class_name or scheduling.priority_class_name
    if priority:
        spec["priorityClassName"] = priority
    return spec
