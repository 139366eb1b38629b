"""How often progress is written to the API server.

A thousand runs that each write every second would be a load that serves no
reader, yet a demo that shows nothing for 15 s looks dead. State changes are
written at once; bare progress every max(15 s, live runs / 50 per second), and
every 3 s where fewer than 50 runs live, which is at most 17 writes a second.
"""

from __future__ import annotations

import zlib
from enum import StrEnum
from typing import Final

from footplate_contracts.v1alpha1.status import TrainingRunStatus

FEW_RUNS: Final = 50
FEW_RUNS_SECONDS: Final = 3.0
LEAST_SECONDS: Final = 15.0
RUNS_PER_SECOND: Final = 50.0
_JITTER: Final = 0.2

_NUMBERS: Final[dict[str, object]] = {"time": None, "goodput": None}  # grow by themselves: no reason to write


class Change(StrEnum):
    """What a new status is worth."""

    NOTHING = "nothing"
    PROGRESS = "progress"
    STATE = "state"


def progress_interval(live_runs: int, uid: str) -> float:
    """Seconds between two writes of bare progress of the run `uid`."""
    base = FEW_RUNS_SECONDS if live_runs < FEW_RUNS else max(LEAST_SECONDS, live_runs / RUNS_PER_SECOND)
    return base * jitter(uid)


def jitter(uid: str) -> float:
    """A factor of 0.8 to 1.2 that spreads runs in time; the same for each call."""
    return 1.0 - _JITTER + 2.0 * _JITTER * zlib.crc32(uid.encode()) / 0xFFFFFFFF


def compare(before: TrainingRunStatus, after: TrainingRunStatus) -> Change:
    """Whether `after` says something new, and whether that may wait."""
    if _without(before, _NUMBERS) == _without(after, _NUMBERS):
        return Change.NOTHING
    return Change.PROGRESS if _state(before) == _state(after) else Change.STATE


def _state(status: TrainingRunStatus) -> TrainingRunStatus:
    conditions = [condition.model_copy(update={"message": ""}) for condition in status.conditions]
    return _without(status, {**_NUMBERS, "progress": None, "checkpoint": None, "conditions": conditions})


def _without(status: TrainingRunStatus, values: dict[str, object]) -> TrainingRunStatus:
    return status.model_copy(update=values)
