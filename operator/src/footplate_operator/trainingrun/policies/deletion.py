"""Decides when to delete an ended run: after its time to live, and once the API has its final status.

The API learns of runs by watching them. If a run is deleted while the API is away, the history
keeps its last known state, such as `Running`, for ever. So the operator
waits for the API, but not without end: it is no part of the cluster's life.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from footplate_contracts.v1alpha1.types import Seconds
from footplate_operator.trainingrun.observation import PodView, RecordingStatus
from footplate_operator.trainingrun.policies import ttl
from footplate_operator.trainingrun.run import Run

LONGEST_SECONDS: Final = 3600.0  # after its time to live
# Operator and API may come back together after a longer outage, and a migration takes ten minutes.
LEAST_ASKED_SECONDS: Final = 900.0


@dataclass(frozen=True)
class Deletion:
    """Deletion of a run that has ended; `left`: seconds until then, if nothing else happens."""

    left: float
    ask: bool = False  # the API, whether it has the final status
    unrecorded: bool = False  # it goes though the API has not

    @property
    def due(self) -> bool:
        """True if it is due now."""
        return self.left <= 0.0


def due_since(
    run: Run, pods: Iterable[PodView], recorded: RecordingStatus | None, now: datetime
) -> datetime | None:
    """Return since when `run` is due for deletion, unless another run waits for it; None if it is not.

    It stays until its `pods` have ended.
    """
    lifetime = run.spec.ttl_seconds_after_finished
    if run.ended is None or lifetime is None or any(pod.live for pod in pods):
        return None
    due = plan_deletion(run.ended, lifetime, recorded, now).due
    return run.ended + timedelta(seconds=lifetime) if due else None


def plan_deletion(
    ended_at: datetime, lifetime: Seconds, recorded: RecordingStatus | None, now: datetime
) -> Deletion:
    """Plan the deletion of a run that ended at `ended_at`; `recorded` is None if no API is configured."""
    left = ttl.remaining(ended_at, lifetime, now)
    if left > 0.0 or recorded is None or recorded.known:
        return Deletion(left)
    longest = max(left + LONGEST_SECONDS, LEAST_ASKED_SECONDS - recorded.asked_for)
    return Deletion(longest, ask=longest > 0.0, unrecorded=longest <= 0.0)
