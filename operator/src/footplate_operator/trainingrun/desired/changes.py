"""A decision about a run as changes of its children, in the order in which they are made."""

from __future__ import annotations

from footplate_contracts.names import Role
from footplate_operator.runtime.children import Child
from footplate_operator.runtime.decision import Change, Create, Delete, Patch
from footplate_operator.runtime.kinds import Json
from footplate_operator.trainingrun.desired.desired import Desired
from footplate_operator.trainingrun.gang.retire import DeletionMode, PodDeletion
from footplate_operator.trainingrun.labels import slot_labels
from footplate_operator.trainingrun.observed import PodView
from footplate_operator.trainingrun.run import TRAINING_RUN, Run


def changes(run: Run, desired: Desired, secret: Json | None) -> tuple[tuple[Change, ...], ...]:
    """What pods need comes before them, what makes room for them too; the run itself goes last.

    Args:
        secret: the manifest of the Secret, where it is to be made.
    """
    itself = Child(kind=TRAINING_RUN, name=run.name, uid=run.uid, namespace=run.namespace)
    return (
        () if secret is None else (Create(secret),),
        tuple(Create(manifest) for manifest in desired.children),
        tuple(_promotion(pod) for pod in desired.promoted),
        tuple(_deletion(deletion) for deletion in desired.pod_deletions),
        tuple(Create(manifest) for manifest in desired.pods),
        tuple(Delete(child) for child in desired.child_deletions),
        (Delete(itself),) if desired.delete_run else (),
    )


def _promotion(pod: PodView) -> Patch:
    """Label a spare as the worker that it has become."""
    labels = slot_labels(Role.WORKER, pod.worker)
    return Patch(pod, {"metadata": {"labels": labels}}, verb="promoting")


def _deletion(deletion: PodDeletion) -> Change:
    """A pod that is stopped ends through its own deadline, so that it keeps its log."""
    delete = Delete(deletion.pod, deletion.grace)
    if deletion.mode is DeletionMode.DELETE:
        return delete
    return Patch(deletion.pod, {"spec": {"activeDeadlineSeconds": 1}}, verb="stopping", otherwise=delete)
