"""How the objects of a run are found: labels that they have, selectors that name them."""

from __future__ import annotations

from footplate_contracts.names import (
    INCARNATION_LABEL,
    INDEX_LABEL,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    ROLE_LABEL,
    RUN_LABEL,
    RUN_UID_LABEL,
    Role,
    RunUid,
    WorkerId,
)
from footplate_operator.trainingrun.run import Run


def run_labels(run: Run) -> dict[str, str]:
    """Labels of everything that belongs to `run`."""
    return {MANAGED_BY_LABEL: MANAGED_BY, RUN_LABEL: run.name, RUN_UID_LABEL: run.uid}


def slot_labels(role: Role, worker: WorkerId) -> dict[str, str]:
    """What a pod does and for which slot; the labels that change when a spare takes a slot."""
    return {
        ROLE_LABEL: role.value,
        INDEX_LABEL: str(worker.index),
        INCARNATION_LABEL: str(worker.incarnation),
    }


def match_role(uid: RunUid, role: Role) -> dict[str, str]:
    """Labels that the pods of one role of a run have, as manifests select them."""
    return {RUN_UID_LABEL: uid, ROLE_LABEL: role.value}


def selector(uid: RunUid, role: Role | None = None) -> str:
    """Label selector of a run's objects, or of its pods of one role, as requests name it."""
    own = f"{RUN_UID_LABEL}={uid}"
    return f"{own},{ROLE_LABEL}={role}" if role else own
