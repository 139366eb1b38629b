"""Parts that pods of every kind share: security, scratch space, environment, pull secrets.

Restricted Pod Security with a read-only root breaks whatever writes beside its code; torch, Triton and the
Hugging Face libraries all do. So every directory they write to is an emptyDir, and environment variables
point to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from footplate_contracts.names import Env
from footplate_contracts.v1alpha1.pods import SecurityContext, SecurityProfile
from footplate_operator.runtime.kinds import Json

USER_ID: Final = 1000
HOME: Final = "/home/footplate"
DEFAULT_IDS: Final = SecurityContext(run_as_user=USER_ID, run_as_group=USER_ID, fs_group=USER_ID)
TMP_VOLUME: Final = "footplate-tmp"
HOME_VOLUME: Final = "footplate-home"

_RESERVED: Final = frozenset(map(str, Env))
_FIELDS: Final[Mapping[Env, str]] = {
    Env.POD_NAME: "metadata.name",
    Env.POD_UID: "metadata.uid",
    Env.POD_IP: "status.podIP",
    Env.NODE_NAME: "spec.nodeName",
}


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
    """Return the mode of a mounted Secret, whose files root owns: readable by `fsGroup` only, if set."""
    return 0o444 if ids.fs_group is None else 0o440


def home_environment() -> dict[str, str]:
    """Return the environment variables that lead programs to the scratch space."""
    return {
        "HOME": HOME,
        "USER": "footplate",  # getpass.getuser() has no other source where /etc/passwd does not list us
        "TMPDIR": "/tmp",
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


def scratch_volumes() -> list[Json]:
    """Build the volumes of the directories that programs write to."""
    return [{"name": TMP_VOLUME, "emptyDir": {}}, {"name": HOME_VOLUME, "emptyDir": {}}]


def scratch_mounts() -> list[Json]:
    """Build the mounts of `scratch_volumes`."""
    return [{"name": TMP_VOLUME, "mountPath": "/tmp"}, {"name": HOME_VOLUME, "mountPath": HOME}]


def tolerate_lost_node(seconds: int | None) -> list[Json]:
    """Tolerate a node that is not ready or unreachable for `seconds`; None: until the pod is deleted."""
    extent = {} if seconds is None else {"tolerationSeconds": seconds}
    return [
        {"key": f"node.kubernetes.io/{taint}", "operator": "Exists", "effect": "NoExecute", **extent}
        for taint in ("not-ready", "unreachable")
    ]


def pod_spec(grace: int, security: Json, pull_secrets: Iterable[str]) -> Json:
    """Build the spec fields that every pod has; `security` is that of the pod."""
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": grace,
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "securityContext": security,
        "imagePullSecrets": [{"name": secret} for secret in dict.fromkeys(pull_secrets)],
    }


def no_eviction_annotations() -> dict[str, str]:
    """Return the annotations that prevent autoscalers from evicting the pod."""
    return {
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
        "karpenter.sh/do-not-disrupt": "true",
    }
