"""What every object of a run has, and how it is found: name, labels and owner, selectors and host names."""

from __future__ import annotations

from footplate_contracts.names import (
    MANAGED_BY,
    MANAGED_BY_LABEL,
    ROLE_LABEL,
    RUN_LABEL,
    RUN_UID_LABEL,
    Role,
    RunUid,
    coordinator_service_name,
)
from footplate_operator.runtime.kinds import Json
from footplate_operator.runtime.objects import owner_reference
from footplate_operator.trainingrun.run import TRAINING_RUN, Run


def metadata(run: Run, name: str) -> Json:
    """Metadata of a child."""
    return {
        "name": name,
        "namespace": run.namespace,
        "labels": {MANAGED_BY_LABEL: MANAGED_BY, RUN_LABEL: run.name, RUN_UID_LABEL: run.uid},
        "ownerReferences": [owner_reference(TRAINING_RUN, run)],
    }


def match_role(uid: RunUid, role: Role) -> dict[str, str]:
    """Labels that the pods of one role of a run have, as manifests select them."""
    return {RUN_UID_LABEL: uid, ROLE_LABEL: role.value}


def selector(uid: RunUid, role: Role | None = None) -> str:
    """Label selector of a run's objects, or of its pods of one role, as requests name it."""
    own = f"{RUN_UID_LABEL}={uid}"
    return f"{own},{ROLE_LABEL}={role}" if role else own


def coordinator_host(run: Run) -> str:
    """DNS name of the coordinator; also the name in its certificate."""
    return f"{coordinator_service_name(run.name)}.{run.namespace}.svc"


def certificate_names(run: Run) -> list[str]:
    """Every name under which the coordinator may be asked."""
    short = coordinator_service_name(run.name)
    host = coordinator_host(run)
    return [host, f"{host}.cluster.local", f"{short}.{run.namespace}", short]
