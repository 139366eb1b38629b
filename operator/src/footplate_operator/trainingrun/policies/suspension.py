"""Suspending in two phases: first a checkpoint, then the pods.

Whoever kills pods first loses the work since the last checkpoint. So the
coordinator is asked for a checkpoint, and pods go when it is durable, when
there is nothing to save, or when the deadline has passed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

ALLOWANCE_SECONDS: Final = 15.0  # for the command to arrive, the step to end and the answer to come back


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
