"""The coordinator that comes next: as a pod, and as the status tells of it before there is one."""

from __future__ import annotations

from footplate_contracts.names import coordinator_pod_name
from footplate_contracts.v1alpha1.status import CoordinatorStatus
from footplate_operator.runtime.kinds import Json
from footplate_operator.trainingrun.desired.situation import Situation
from footplate_operator.trainingrun.manifests import coordinator


def coordinator_pod(situation: Situation) -> Json:
    """The coordinator of the next epoch, where no earlier one is that may not answer for its node's sake."""
    gang = situation.gang
    # Who is missed is what an earlier one said, and nobody takes it back where none finds room.
    missed = frozenset() if gang.coordinator.cramped else gang.avoided
    avoided = missed | gang.coordinator.avoided
    return coordinator.pod(
        situation.run, situation.revision, gang.coordinator.epoch, gang.observed.api, avoided
    )


def next_coordinator(situation: Situation) -> CoordinatorStatus:
    """Its epoch is fixed before it is made."""
    epoch = situation.gang.coordinator.epoch
    return CoordinatorStatus(pod_name=coordinator_pod_name(situation.run.name, epoch), epoch=epoch)
