"""What a new status of a run is worth: a state is written at once, bare progress now and then."""

from __future__ import annotations

from typing import Final

from footplate_contracts.v1alpha1.status import TrainingRunStatus
from footplate_operator.runtime.throttle import StatusChange

_NUMBERS: Final[dict[str, object]] = {"time": None, "goodput": None}  # grow by themselves: no reason to write


def compare(before: TrainingRunStatus, after: TrainingRunStatus) -> StatusChange:
    """Whether `after` says something new, and whether that may wait."""
    if _without(before, _NUMBERS) == _without(after, _NUMBERS):
        return StatusChange.NOTHING
    return StatusChange.PROGRESS if _state(before) == _state(after) else StatusChange.STATE


def _state(status: TrainingRunStatus) -> TrainingRunStatus:
    conditions = [condition.model_copy(update={"message": ""}) for condition in status.conditions]
    return _without(status, {**_NUMBERS, "progress": None, "checkpoint": None, "conditions": conditions})


def _without(status: TrainingRunStatus, values: dict[str, object]) -> TrainingRunStatus:
    return status.model_copy(update=values)
