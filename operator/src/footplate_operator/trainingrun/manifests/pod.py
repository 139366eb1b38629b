"""Common parts of a run's worker and coordinator pods: identity, configuration, credentials."""

from __future__ import annotations

from collections.abc import Sequence
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
from footplate_contracts.v1alpha1.pods import SecurityContext
from footplate_operator.runtime.kinds import Json
from footplate_operator.runtime.pods import (
    DEFAULT_IDS,
    home_environment,
    pod_spec,
    scratch_mounts,
    scratch_volumes,
    secret_mode,
)
from footplate_operator.trainingrun.metadata import coordinator_host
from footplate_operator.trainingrun.revision import Defaults, Revision
from footplate_operator.trainingrun.run import Run

CONFIG_VOLUME: Final = "footplate-config"
SECRET_VOLUME: Final = "footplate-run"
SHM_VOLUME: Final = "footplate-shm"


def security_context(run: Run, profile: ComputeProfileSpec) -> SecurityContext:
    """Return the ids of the run's pods: the run's, else its profile's, else the defaults."""
    for stated in (run.spec.trainer.security_context, profile.security_context):
        if stated is not None:
            return stated
    return DEFAULT_IDS


def shared_environment(run: Run, defaults: Defaults) -> dict[str, str]:
    """Return the environment variables of every pod of a run."""
    return {
        Env.RUN_CONFIG: f"{RUN_CONFIG_MOUNT}/{RUN_CONFIG_FILE}",
        Env.RUN_TOKEN_FILE: f"{RUN_SECRET_MOUNT}/{SECRET_TOKEN_KEY}",
        Env.TLS_CERTIFICATE_FILE: f"{RUN_SECRET_MOUNT}/{SECRET_CERTIFICATE_KEY}",
        Env.COORDINATOR_HOST: coordinator_host(run),
        Env.COORDINATOR_PORT: str(COORDINATOR_PORT),
        **home_environment(),
        **({Env.LOG_FORMAT: defaults.log_format.value} if defaults.log_format else {}),
    }


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
        *scratch_volumes(),
    ]


def base_mounts() -> list[Json]:
    """Build the mounts of `base_volumes`."""
    return [
        {"name": CONFIG_VOLUME, "mountPath": RUN_CONFIG_MOUNT, "readOnly": True},
        {"name": SECRET_VOLUME, "mountPath": RUN_SECRET_MOUNT, "readOnly": True},
        *scratch_mounts(),
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
    return {"hostname": name, **pod_spec(grace, security, secrets)}
