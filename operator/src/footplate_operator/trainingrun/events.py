"""Kubernetes Events for what a person reads in `kubectl describe`: phases and failures, no more.

The name is made from what happened, so that an operator that died in between
does not say it twice.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Final

from footplate_contracts.names import API_VERSION, ConditionType, Phase
from footplate_contracts.v1alpha1.status import TrainingRunStatus
from footplate_operator.runtime.kinds import Json
from footplate_operator.trainingrun.run import Run

_CONTROLLER: Final = "footplate.dev/operator"
_NOTE_LIMIT: Final = 1024
_BAD: Final = frozenset({Phase.FAILED, Phase.RESTARTING})


def phase_event(run: Run, after: TrainingRunStatus, instance: str, now: datetime) -> Json | None:
    """The Event for a change of phase; None where it stays what it is."""
    phase = after.phase
    if phase is None or phase is run.phase:
        return None
    note = _note(after) or f"the run is {phase.value}"
    return _event(run, phase.value, note, phase in _BAD, instance, f"{phase}{after.phase_time}", now)


def held_up_event(run: Run, after: TrainingRunStatus, instance: str, now: datetime) -> Json | None:
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
        return _event(run, condition.reason, condition.message, True, instance, once, now)
    return None


def _note(status: TrainingRunStatus) -> str:
    for condition in status.conditions:
        if condition.type == ConditionType.READY:
            return condition.message
    return ""


def _event(run: Run, reason: str, note: str, warning: bool, instance: str, once: str, now: datetime) -> Json:
    digest = hashlib.sha256(f"{run.uid}{once}".encode()).hexdigest()[:12]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{run.name}.{digest}", "namespace": run.namespace},
        "eventTime": now.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "reportingController": _CONTROLLER,
        "reportingInstance": instance[:128],
        "action": "Reconcile",
        "reason": reason[:128],
        "type": "Warning" if warning else "Normal",
        "note": note[:_NOTE_LIMIT],
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": "TrainingRun",
            "name": run.name,
            "namespace": run.namespace,
            "uid": run.uid,
        },
    }
