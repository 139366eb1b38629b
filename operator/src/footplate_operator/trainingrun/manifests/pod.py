"""Common parts of worker and coordinator pods: security, scratch space, names.

Restricted Pod Security with a read-only root breaks whatever writes beside its
code; torch, Triton and the Hugging Face libraries all do. So every directory they
write to is an emptyDir, and environment variables point to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from footplate_contracts.names import (
    COORDINATOR_PORT,
    RUN_CONFIG_FILE,
    RUN_CONFIG_MOUNT,
    RUN_SECRET_MOUNT,
    SECRET_CERTIFICATE_KEY,
    SECRET_TOKEN_KEY,
    Env,
    secret_name,
)
from footplate_contracts.v1alpha1.computeprofile import ComputeProfileSpec
from footplate_contracts.v1alpha1.pods import SecurityContext, SecurityProfile
from footplate_operator.runtime.kinds import Json
from footplate_operator.trainingrun.metadata import coordinator_host
from footplate_operator.trainingrun.revision import Defaults, Revision
from footplate_operator.trainingrun.run import Run

USER_ID: Final = 1000
HOME: Final = "/home/footplate"
_USUAL: Final = SecurityContext(run_as_user=USER_ID, run_as_group=USER_ID, fs_group=USER_ID)
CONFIG_VOLUME: Final = "footplate-config"
SECRET_VOLUME: Final = "footplate-run"
TMP_VOLUME: Final = "footplate-tmp"
HOME_VOLUME: Final = "footplate-home"
SHM_VOLUME: Final = "footplate-shm"

_RESERVED: Final = frozenset(map(str, Env))
_FIELDS: Final[Mapping[Env, str]] = {
    Env.POD_NAME: "metadata.name",
    Env.POD_UID: "metadata.uid",
    Env.POD_IP: "status.podIP",
    Env.NODE_NAME: "spec.nodeName",
}


def security_context(run: Run, profile: ComputeProfileSpec) -> SecurityContext:
    """Return the ids of the run's pods: the run's, else its profile's, else the defaults."""
    for stated in (run.spec.trainer.security_context, profile.security_context):
        if stated is not None:
            return stated
    return _USUAL


def pod_security(ids: SecurityContext, standard: SecurityProfile) -> Json:
    """Build the pod-level half of a Pod Security standard."""
    found: Json = {"runAsNonRoot": True} if standard is SecurityProfile.RESTRICTED else {}
    found |= ids.to_json()
    if ids.fs_group is not None:
        found["fsGroupChangePolicy"] = (
            "OnRootMismatch"  # a volume with a million shards is not walked each time
        )
    found["seccompProfile"] = {"type": "RuntimeDefault"}
    return found


def container_security(standard: SecurityProfile, capabilities: Sequence[str] = ()) -> Json:
    """Build the container-level half of a Pod Security standard."""
    if standard is SecurityProfile.RESTRICTED:
        return {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
    found: Json = {"readOnlyRootFilesystem": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if capabilities:
        found["capabilities"] = {"add": list(capabilities)}
    return found


def secret_mode(ids: SecurityContext) -> int:
    """Return the mode of the run's Secret, whose files root owns: readable by `fsGroup` only, if set."""
    return 0o444 if ids.fs_group is None else 0o440


def shared_environment(run: Run, defaults: Defaults) -> dict[str, str]:
    """Return the environment variables of every pod of a run."""
    return {
        Env.RUN_CONFIG: f"{RUN_CONFIG_MOUNT}/{RUN_CONFIG_FILE}",
        Env.RUN_TOKEN_FILE: f"{RUN_SECRET_MOUNT}/{SECRET_TOKEN_KEY}",
        Env.TLS_CERTIFICATE_FILE: f"{RUN_SECRET_MOUNT}/{SECRET_CERTIFICATE_KEY}",
        Env.COORDINATOR_HOST: coordinator_host(run),
        Env.COORDINATOR_PORT: str(COORDINATOR_PORT),
        "HOME": HOME,
        "USER": "footplate",  # getpass.getuser() has no other source where /etc/passwd does not list us
        "TMPDIR": "/tmp",
        **({Env.LOG_FORMAT: defaults.log_format.value} if defaults.log_format else {}),
    }


def as_env(variables: Mapping[str, str]) -> list[Json]:
    """Convert `variables` to a container's env, and add the pod's own name, UID, address and node."""
    own: list[Json] = [{"name": str(name), "value": value} for name, value in variables.items()]
    own += [
        {"name": str(name), "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in _FIELDS.items()
    ]
    return own


def merged_env(ours: Sequence[Json], users: Sequence[Json]) -> list[Json]:
    """Merge env lists: the user's variables win, except over those by which our programs find each other."""
    wanted = [variable for variable in users if variable["name"] not in _RESERVED]
    stated = {variable["name"] for variable in wanted}
    return [variable for variable in ours if variable["name"] not in stated] + wanted


def base_volumes(
    run: Run, revision: Revision, secret_keys: Sequence[str], ids: SecurityContext
) -> list[Json]:
    """Build the volumes of RunConfig, the named keys of the run's Secret, and scratch space."""
    return [
        {"name": CONFIG_VOLUME, "configMap": {"name": revision.config_map(run.name)}},
        {
            "name": SECRET_VOLUME,
            "secret": {
                "secretName": secret_name(run.name),
                "defaultMode": secret_mode(ids),
                "items": [{"key": key, "path": key} for key in secret_keys],
            },
        },
        {"name": TMP_VOLUME, "emptyDir": {}},
        {"name": HOME_VOLUME, "emptyDir": {}},
    ]


def base_mounts() -> list[Json]:
    """Build the mounts of `base_volumes`."""
    return [
        {"name": CONFIG_VOLUME, "mountPath": RUN_CONFIG_MOUNT, "readOnly": True},
        {"name": SECRET_VOLUME, "mountPath": RUN_SECRET_MOUNT, "readOnly": True},
        {"name": TMP_VOLUME, "mountPath": "/tmp"},
        {"name": HOME_VOLUME, "mountPath": HOME},
    ]


def tolerate_lost_node(seconds: int | None) -> list[Json]:
    """Tolerate a node that is not ready or unreachable for `seconds`; None: until the pod is deleted."""
    extent = {} if seconds is None else {"tolerationSeconds": seconds}
    return [
        {"key": f"node.kubernetes.io/{taint}", "operator": "Exists", "effect": "NoExecute", **extent}
        for taint in ("not-ready", "unreachable")
    ]


def common_spec(
    run: Run, defaults: Defaults, name: str, grace: int, security: Json, *, general_secrets: bool
) -> Json:
    """Build the spec fields that every pod of a run has.

    `general_secrets`: pull its image with the installation's secrets, too, if the run names some.
    """
    secrets = [secret.name for secret in run.spec.trainer.image_pull_secrets]
    if general_secrets or not secrets:
        secrets += defaults.image_pull_secrets or []
    return {
        "hostname": name,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": grace,
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "securityContext": security,
        "imagePullSecrets": [{"name": secret} for secret in dict.fromkeys(secrets)],
    }


def no_eviction_annotations() -> dict[str, str]:
    """Return the annotations that prevent autoscalers from evicting the pod."""
    return {
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
        "karpenter.sh/do-not-disrupt": "true",
    }
