"""Manifest of the coordinator: a small pod without GPU or user volumes, cheap to replace."""

from __future__ import annotations

from typing import Final

from footplate_contracts.names import (
    API_AUDIENCE,
    API_CA_FILE,
    API_TOKEN_FILE,
    API_TOKEN_MOUNT,
    COORDINATOR_PORT,
    RUN_SECRET_MOUNT,
    SECRET_CERTIFICATE_KEY,
    SECRET_PRIVATE_KEY_KEY,
    SECRET_TOKEN_KEY,
    Env,
    Role,
    api_ca_name,
    coordinator_pod_name,
)
from footplate_contracts.v1alpha1.pods import SecurityProfile
from footplate_operator.runtime.kinds import Json
from footplate_operator.runtime.pods import (
    as_env,
    container_security,
    no_eviction_annotations,
    pod_security,
    tolerate_lost_node,
)
from footplate_operator.trainingrun.containers import COORDINATOR_CONTAINER
from footplate_operator.trainingrun.directives import initial_directives
from footplate_operator.trainingrun.manifests.placement import affinity
from footplate_operator.trainingrun.manifests.pod import (
    base_mounts,
    base_volumes,
    common_spec,
    security_context,
    shared_environment,
)
from footplate_operator.trainingrun.metadata import metadata
from footplate_operator.trainingrun.observation import ApiEndpoint
from footplate_operator.trainingrun.revision import Revision
from footplate_operator.trainingrun.run import Run
from footplate_operator.trainingrun.slots import coordinator_labels

GRACE_SECONDS: Final = 615  # to hand the last telemetry over: the API may be away for ten minutes
# It holds no GPU and a second one does no harm, so Kubernetes may evict it from a lost node by itself.
LOST_NODE_SECONDS: Final = 5
API_TOKEN_VOLUME: Final = "footplate-api-token"
NO_API: Final = ApiEndpoint()
API_TOKEN_SECONDS: Final = 3600  # the kubelet renews it after four fifths of them


def pod(
    run: Run, revision: Revision, epoch: int, api: ApiEndpoint = NO_API, avoided: frozenset[str] = frozenset()
) -> Json:
    """Build the pod of the coordinator of `epoch`, which is scheduled on none of the nodes `avoided`.

    One lost node should not take both a worker and the coordinator that detects the loss. The API's URL is no
    part of the revision: what ranks compute does not depend on it, and an earlier API may be gone.
    """
    name = coordinator_pod_name(run.name, epoch)
    body = metadata(run, name)
    body["labels"] |= coordinator_labels(epoch)
    body["annotations"] = no_eviction_annotations()
    profile, defaults = revision.frozen.profile, revision.frozen.defaults
    keys = [SECRET_TOKEN_KEY, SECRET_CERTIFICATE_KEY, SECRET_PRIVATE_KEY_KEY]
    ids = security_context(run, profile)
    standard = SecurityProfile.RESTRICTED
    if ids.run_as_user == 0:  # as which it must not start otherwise
        standard = profile.security_profile or standard
    security = pod_security(ids, standard)
    spec = common_spec(run, defaults, name, GRACE_SECONDS, security, general_secrets=True)
    spec |= {
        "containers": [_container(run, revision, epoch, api, standard)],
        "volumes": [*base_volumes(run, revision, keys, ids), *_api_volumes(run, api)],
        "tolerations": [
            *profile.scheduling.tolerations,
            *(run.spec.trainer.tolerations or ()),
            *tolerate_lost_node(LOST_NODE_SECONDS),
        ],
        "affinity": affinity(run.uid, {Role.WORKER: 100}, sorted(avoided)),
        # The first process of a namespace never hears a signal that it does not handle yet: told to end in
        # the moment of its start, it would stay for all of its grace.
        "shareProcessNamespace": True,
    }
    if api.url:
        spec["serviceAccountName"] = "default"  # whose token the API is shown
    priority = run.spec.priority_class_name or profile.scheduling.priority_class_name
    if priority:
        spec["priorityClassName"] = priority
    return {"apiVersion": "v1", "kind": "Pod", "metadata": body, "spec": spec}


def _container(run: Run, revision: Revision, epoch: int, api: ApiEndpoint, standard: SecurityProfile) -> Json:
    defaults = revision.frozen.defaults
    policy = defaults.coordinator_image_pull_policy or defaults.image_pull_policy
    variables = shared_environment(run, defaults) | {
        Env.TLS_KEY_FILE: f"{RUN_SECRET_MOUNT}/{SECRET_PRIVATE_KEY_KEY}",
        Env.COORDINATOR_EPOCH: str(epoch),
        Env.DIRECTIVES: initial_directives(run).model_dump_json(by_alias=True, exclude_none=True),
    }
    if api.url:
        variables[Env.API_URL] = api.url
        variables[Env.API_TOKEN_FILE] = f"{API_TOKEN_MOUNT}/{API_TOKEN_FILE}"
    if api.uses_ca_bundle:
        variables[Env.API_CA_FILE] = f"{API_TOKEN_MOUNT}/{API_CA_FILE}"
    return {
        "name": COORDINATOR_CONTAINER,
        "image": defaults.coordinator_image,
        "imagePullPolicy": policy.value,
        "env": as_env(variables),
        "ports": [{"name": "https", "containerPort": COORDINATOR_PORT}],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": container_security(standard),
        "volumeMounts": [*base_mounts(), *(_mount_of(volume) for volume in _api_volumes(run, api))],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _api_volumes(run: Run, api: ApiEndpoint) -> list[Json]:
    """Return the volume with the API's token and CA certificates; empty without an API.

    The token is a service account token, which the API alone accepts: the API
    server of Kubernetes refuses its audience. The kubelet updates the folder. The
    pod starts without a CA bundle, too: rows wait, and training does not.
    """
    if not api.url:
        return []
    token = {"audience": API_AUDIENCE, "expirationSeconds": API_TOKEN_SECONDS, "path": API_TOKEN_FILE}
    sources: list[Json] = [{"serviceAccountToken": token}]
    if api.uses_ca_bundle:
        items = [{"key": API_CA_FILE, "path": API_CA_FILE}]
        sources.append({"configMap": {"name": api_ca_name(run.name), "items": items, "optional": True}})
    return [{"name": API_TOKEN_VOLUME, "projected": {"sources": sources}}]


def _mount_of(volume: Json) -> Json:
    return {"name": volume["name"], "mountPath": API_TOKEN_MOUNT, "readOnly": True}
