"""What is told of a run as a Kubernetes Event: phases and failures, no more."""

from __future__ import annotations

from typing import Final

from footplate_contracts.names import ConditionType, Phase
from footplate_contracts.v1alpha1.status import TrainingRunStatus
from footplate_operator.runtime.events import Event
from footplate_operator.trainingrun.run import Run

_BAD: Final = frozenset({Phase.FAILED, Phase.RESTARTING})


def phase_event(run: Run, after: TrainingRunStatus) -> Event | None:
    """The Event for a change of phase; None where it stays what it is."""
    phase = after.phase
    if phase is None or phase is run.phase:
        return None
    note = _note(after) or f"the run is {phase.value}"
    return Event(phase.value, note, phase in _BAD, once=f"{phase}{after.phase_time}")


def held_up_event(run: Run, after: TrainingRunStatus) -> Event | None:
    """The Event for something that begins to hold the run up."""
    before = {condition.type: condition for condition in run.status.conditions}
    for condition in after.conditions:
        if condition.type != ConditionType.PROGRESSING or condition.status == "True" or after.phase is None:
            continue
        known = before.get(condition.type)
        if known is not None and known.status == "False" and known.reason == condition.reason:
            continue
        if after.phase.terminal or after.phase in (Phase.SUSPENDED, Phase.SUSPENDING):
            continue
        once = f"{condition.reason}{after.phase_time}"
        return Event(condition.reason, condition.message, warning=True, once=once)
    return None


def _note(status: TrainingRunStatus) -> str:
    for condition in status.conditions:
        if condition.type == ConditionType.READY:
            return condition.message
    return ""
