"""Next coordinator: its pod, and its entry in the status before the pod exists."""

from __future__ import annotations

from footplate_contracts.names import coordinator_pod_name
from footplate_contracts.v1alpha1.status import CoordinatorStatus
from footplate_operator.runtime.kinds import Json
from footplate_operator.trainingrun.desired.assessment import RunAssessment
from footplate_operator.trainingrun.manifests import coordinator


def coordinator_pod(situation: RunAssessment) -> Json:
    """Build the next epoch's coordinator pod, away from nodes that may have silenced earlier ones."""
    gang = situation.gang
    # Who is missed is what an earlier one said, and nobody takes it back where none finds room.
    missed = frozenset() if gang.coordinator.cramped else gang.avoided
    avoided = missed | gang.coordinator.avoided
    return coordinator.pod(
        situation.run, situation.revision, gang.coordinator.epoch, gang.observed.api, avoided
    )


def next_coordinator(situation: RunAssessment) -> CoordinatorStatus:
    """Return the status of the next coordinator, whose epoch is fixed before its pod is created."""
    epoch = situation.gang.coordinator.epoch
    return CoordinatorStatus(pod_name=coordinator_pod_name(situation.run.name, epoch), epoch=epoch)
