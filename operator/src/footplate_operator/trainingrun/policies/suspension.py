"""Whether a run is to be suspended, and how: in two phases, first a checkpoint, then the pods.

Whoever kills pods first loses the work since the last checkpoint. So the
coordinator is asked for a checkpoint, and pods go when it is durable, when
there is nothing to save, or when the deadline has passed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from footplate_contracts.names import Reason
from footplate_operator.trainingrun.run import Run

ALLOWANCE_SECONDS: Final = 15.0  # for the command to arrive, the step to end and the answer to come back


@dataclass(frozen=True)
class Suspension:
    """Why a run is to be suspended: in one word, and for a person."""

    reason: Reason
    message: str

    def told(self, state: str) -> str:
        """`state` of the suspension, with why it is suspended where that is not a person's word."""
        return state if self.reason is Reason.SUSPENDED else f"{self.message}; {state}"


BY_HAND: Final = Suspension(Reason.SUSPENDED, "spec.suspend is true")


def asked(run: Run) -> Suspension | None:
    """Whether `run` is to be suspended now: by `spec.suspend`, or as its budget is spent."""
    if run.spec.suspend:
        return BY_HAND
    return Suspension(Reason.BUDGET_EXCEEDED, run.exceeded) if run.exceeded else None


class Step(StrEnum):
    """The next thing to do."""

    COMMAND = "command"
    RELEASE = "release"
    GIVE_UP = "giveUp"  # release, though nothing was acknowledged


def next_step(training: bool, acknowledged: bool, waited: float, deadline: float) -> Step:
    """Ask for the checkpoint (again: it is idempotent), or let the pods go.

    Args:
        training: ranks have finished steps that no checkpoint holds.
        acknowledged: the coordinator says that the checkpoint is durable and all ranks ended.
        waited: seconds since the first command.
        deadline: seconds that a checkpoint may take (`checkpoint.emergencyDeadlineSeconds`).
    """
    if acknowledged or not training:
        return Step.RELEASE
    return Step.COMMAND if waited <= deadline + ALLOWANCE_SECONDS else Step.GIVE_UP
