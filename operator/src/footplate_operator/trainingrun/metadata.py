"""Metadata of a run's objects: name, labels, owner, selectors and host names."""

from __future__ import annotations

from footplate_contracts.names import (
    ROLE_LABEL,
    RUN_LABEL,
    RUN_UID_LABEL,
    Role,
    RunUid,
    coordinator_service_name,
)
from footplate_operator.runtime.kinds import Json
from footplate_operator.runtime.objects import child_metadata
from footplate_operator.trainingrun.run import TRAINING_RUN, Run


def metadata(run: Run, name: str) -> Json:
    """Build the metadata of a child."""
    return child_metadata(TRAINING_RUN, run, name, {RUN_LABEL: run.name, RUN_UID_LABEL: run.uid})


def match_role(uid: RunUid, role: Role) -> dict[str, str]:
    """Return the labels of a run's pods of one role, as manifests select them."""
    return {RUN_UID_LABEL: uid, ROLE_LABEL: role.value}


def selector(uid: RunUid, role: Role | None = None) -> str:
    """Return the label selector of a run's objects, or of its pods of one role, for list requests."""
    own = f"{RUN_UID_LABEL}={uid}"
    return f"{own},{ROLE_LABEL}={role}" if role else own


def coordinator_host(run: Run) -> str:
    """Return the DNS name of the coordinator, which is also the name in its certificate."""
    return f"{coordinator_service_name(run.name)}.{run.namespace}.svc"


def certificate_names(run: Run) -> list[str]:
    """Return every DNS name of the coordinator, the main one first."""
    short = coordinator_service_name(run.name)
    host = coordinator_host(run)
    return [host, f"{host}.cluster.local", f"{short}.{run.namespace}", short]
