"""Counts of telemetry that the history will never get, over all coordinators of a run.

Each coordinator counts from zero. Its successor goes on where the agents report that it stopped.
"""

from __future__ import annotations

from footplate_contracts.coordinator_state import CoordinatorState
from footplate_contracts.v1alpha1.status import TelemetryStatus, TrainingRunStatus


def count_dropped(before: TrainingRunStatus, state: CoordinatorState) -> TrainingRunStatus:
    """Return the status with the counts of `state` added, which only grow; absent if nothing is lost."""
    known = before.telemetry or TelemetryStatus()
    epoch, refused, overflowed = _seen(before.internal.telemetry_seen)
    told = state.given_up
    if not state.is_received or state.epoch < epoch:
        return before
    if state.epoch > epoch:
        refused = overflowed = 0
    more_refused, more_overflowed = max(0, told.refused - refused), max(0, told.overflowed - overflowed)
    if not more_refused and not more_overflowed:
        return before
    counts = TelemetryStatus(
        refused=known.refused + more_refused, overflowed=known.overflowed + more_overflowed
    )
    return before.model_copy(update={"telemetry": counts}).update_internal(
        telemetry_seen=f"{state.epoch}.{refused + more_refused}.{overflowed + more_overflowed}"
    )


def _seen(text: str) -> tuple[int, int, int]:
    """Return epoch and counts that are in the status; zeros before the first."""
    parts = text.split(".")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        return 0, 0, 0
    epoch, refused, overflowed = map(int, parts)
    return epoch, refused, overflowed
