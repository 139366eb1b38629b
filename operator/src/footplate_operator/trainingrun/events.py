"""Kubernetes Events of a run: phases, failures and budgets, no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from footplate_contracts.names import ConditionType, Phase, Reason
from footplate_contracts.v1alpha1.status import TrainingRunStatus
from footplate_operator.runtime.conditions import find
from footplate_operator.runtime.events import ObjectEvent
from footplate_operator.trainingrun.observation import RecordingStatus
from footplate_operator.trainingrun.run import Run

_BAD: Final = frozenset({Phase.FAILED, Phase.RESTARTING})
_SAVES: Final = {Phase.RUNNING, Phase.CHECKPOINTING}  # too often, and too little, for an Event
_NOT_MEANT_TO_TRAIN: Final = frozenset(
    {None, Phase.SUSPENDED, Phase.SUSPENDING, Phase.SUCCEEDED, Phase.FAILED}
)


def phase_event(run: Run, after: TrainingRunStatus) -> ObjectEvent | None:
    """Return the Event for a change of phase; None if the phase stays, or moves to or from a checkpoint."""
    phase, ready = after.phase, find(after.conditions, ConditionType.READY)
    if phase is None or phase is run.phase or {phase, run.phase} == _SAVES:
        return None
    once = f"{phase}{after.last_transition_time}"
    if ready is not None and ready.reason == Reason.NOTHING_TO_TRAIN:
        return ObjectEvent(ready.reason, ready.message, warning=True, once=once)
    note = ready.message if ready is not None and ready.message else f"the run is {phase.value}"
    return ObjectEvent(phase.value, note, phase in _BAD, once=once)


def held_up_event(run: Run, after: TrainingRunStatus) -> ObjectEvent | None:
    """Return the Event for a reason that begins to hold the run up; None if there is none."""
    before = find(run.status.conditions, ConditionType.PROGRESSING)
    now = find(after.conditions, ConditionType.PROGRESSING)
    if after.phase in _NOT_MEANT_TO_TRAIN or now is None or now.status == "True":
        return None
    if now.reason == Reason.WAITING_FOR_RUN:  # as it was asked to
        return None
    if before is not None and (before.status, before.reason) == ("False", now.reason):
        return None
    return ObjectEvent(
        now.reason, now.message, warning=True, once=f"{now.reason}{after.last_transition_time}"
    )


def budget_event(run: Run, after: TrainingRunStatus) -> ObjectEvent | None:
    """Return the Event for 80 % of a budget, and for all of it; each is sent once, across leaders."""
    before = find(run.status.conditions, ConditionType.WITHIN_BUDGET)
    now = find(after.conditions, ConditionType.WITHIN_BUDGET)
    if now is None or now.reason not in (Reason.BUDGET_NEARLY_SPENT, Reason.BUDGET_EXCEEDED):
        return None
    if before is not None and before.reason == now.reason:
        return None
    budget = run.spec.budget.model_dump_json() if run.spec.budget is not None else ""
    return ObjectEvent(
        now.reason, f"{now.message}{_so_far(after)}", warning=True, once=f"{now.reason}{budget}"
    )


def not_avoided_events(nodes: Sequence[str]) -> list[ObjectEvent]:
    """Return the Event for nodes that exceed the run's list of avoided nodes; empty if there are none."""
    if not nodes:
        return []
    note = f"the run already avoids the most nodes allowed, so it does not avoid {', '.join(nodes)}"
    return [
        ObjectEvent(Reason.NODE_NOT_AVOIDED, note, warning=True, once=f"{Reason.NODE_NOT_AVOIDED}{nodes}")
    ]


def _so_far(status: TrainingRunStatus) -> str:
    cost = status.cost
    if cost is None:
        return ""
    dollars = "" if cost.dollars is None else f"{cost.dollars:.2f} dollars"
    carbon = "" if cost.carbon_kilograms is None else f"{cost.carbon_kilograms:.3f} kg"
    amounts = " and ".join(filter(None, (dollars, carbon)))
    return f"; so far: {amounts}" if amounts else ""


def unstored_status_event(recorded: RecordingStatus | None) -> ObjectEvent:
    """Return the Event for a run that is deleted before the API has its final status."""
    why = recorded.said if recorded is not None and recorded.said else "it did not answer"
    note = f"deleted after ttlSecondsAfterFinished, although the API lacks its final status: {why}"
    return ObjectEvent(Reason.FINAL_STATUS_LOST, note, warning=True, once=Reason.FINAL_STATUS_LOST)
