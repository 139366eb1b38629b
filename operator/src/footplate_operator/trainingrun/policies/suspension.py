"""Decides whether and how to suspend a run: in two phases, first a checkpoint, then the pods.

Deleting pods first loses the work since the last checkpoint. So the operator requests a checkpoint
from the coordinator, and deletes the pods when it is durable, when
there is nothing to save, or when the deadline has passed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from footplate_contracts.names import Reason
from footplate_operator.trainingrun.observation import BudgetAssessment
from footplate_operator.trainingrun.run import Run

ALLOWANCE_SECONDS: Final = 15.0  # for the command to arrive, the step to end and the answer to come back


@dataclass(frozen=True)
class SuspensionRequest:
    """Reason to suspend a run, as one word and as a message."""

    reason: Reason
    message: str

    def build_message(self, state: str) -> str:
        """Return `state` of the suspension, with its reason unless a person requested it."""
        return state if self.reason is Reason.SUSPENDED else f"{self.message}; {state}"


BY_HAND: Final = SuspensionRequest(Reason.SUSPENDED, "spec.suspend is true")


def find_suspension(run: Run, spending: BudgetAssessment | None) -> SuspensionRequest | None:
    """Return the first reason to suspend `run` now; None if there is none."""
    exceeded = spending.exceeded if spending is not None else ""
    reasons = (
        BY_HAND if run.spec.suspend else None,
        SuspensionRequest(Reason.BUDGET_EXCEEDED, exceeded) if exceeded else None,
    )
    return next(filter(None, reasons), None)


class SuspensionStep(StrEnum):
    """Next step of a suspension."""

    COMMAND = "command"
    RELEASE = "release"
    GIVE_UP = "giveUp"  # release, though nothing was acknowledged


def next_step(training: bool, acknowledged: bool, waited: float, deadline: float) -> SuspensionStep:
    """Return the next step: request the checkpoint (again: it is idempotent), or delete the pods.

    Args:
        training: ranks have finished steps that no checkpoint holds.
        acknowledged: the coordinator reports that the checkpoint is durable and all ranks ended.
        waited: seconds since the first command.
        deadline: seconds that a checkpoint may take (`checkpoint.emergencyDeadlineSeconds`).
    """
    if acknowledged or not training:
        return SuspensionStep.RELEASE
    return SuspensionStep.COMMAND if waited <= deadline + ALLOWANCE_SECONDS else SuspensionStep.GIVE_UP
