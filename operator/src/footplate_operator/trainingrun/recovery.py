"""Measures how long a run took to train again after an interruption, in parts.

The operator observes each moment a second at most after it happened. Moments
that it missed, as it was down, are not measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_contracts.names import Cause, Phase
from footplate_contracts.v1alpha1.status import Attempt, TrainingRunStatus


class RecoveryPart(StrEnum):
    """Part of a recovery, each from the end of the one before."""

    # From the last word of who was lost, or from what it told, until the interruption was one.
    DETECT = "detect"
    REGISTERED = "registered"  # until every worker, the substitutes among them, is with the coordinator
    SEALED = "sealed"  # until the next generation is
    STEPPING = "stepping"  # until that one has finished a step


@dataclass(frozen=True)
class Recovery:
    """Timestamps of one interruption, so far."""

    noticed: datetime  # when the last word came of an agent that is missed
    interrupted: datetime | None = None
    registered: datetime | None = None
    sealed: datetime | None = None
    cause: Cause | None = None
    broken: str = ""  # the generation that it ended


@dataclass(frozen=True)
class CompletedRecovery:
    """Completed recovery of a run that trains again."""

    cause: Cause
    seconds: Mapping[RecoveryPart, float]


def track_recovery(
    known: Recovery | None, status: TrainingRunStatus, state: CoordinatorState, now: datetime
) -> tuple[Recovery | None, CompletedRecovery | None]:
    """Return the recovery that goes on, if there is one, and the recovery that has just ended.

    Args:
        status: the status written last.
        state: the coordinator's last answer.
    """
    if status.phase in (Phase.RUNNING, Phase.CHECKPOINTING):
        return _while_training(known, status, state, now)
    ended = _last_ended(status)
    if status.phase is not Phase.RESTARTING or ended is None:
        return None, None
    known = known or Recovery(noticed=now)
    if known.interrupted is None:
        known = replace(known, interrupted=now, cause=ended.cause, broken=ended.generation)
    generation = str(state.generation) if state.generation else ""
    sealed = state.state is not RunState.GATHERING and generation not in ("", ended.generation)
    if known.registered is None and state.is_received and (sealed or not (state.missing or state.missed)):
        known = replace(known, registered=now)
    if known.sealed is None and sealed:
        known = replace(known, sealed=now)
    elif not sealed:
        known = replace(known, sealed=None)  # that one broke, too
    return known, None


def _while_training(
    known: Recovery | None, status: TrainingRunStatus, state: CoordinatorState, now: datetime
) -> tuple[Recovery | None, CompletedRecovery | None]:
    if known is None or known.interrupted is None:
        silent = max((missed.seconds for missed in state.missed), default=0.0)
        return (Recovery(noticed=now - timedelta(seconds=silent)) if state.missed else None), None
    registered = known.registered or now
    moments = (known.noticed, known.interrupted, registered, known.sealed or registered, now)
    parts = {
        part: max(0.0, (after - before).total_seconds())
        for part, before, after in zip(RecoveryPart, moments, moments[1:], strict=False)
    }
    return None, CompletedRecovery(known.cause, parts) if known.cause is not None else None


def _last_ended(status: TrainingRunStatus) -> Attempt | None:
    return next((attempt for attempt in reversed(status.attempts) if attempt.end is not None), None)
