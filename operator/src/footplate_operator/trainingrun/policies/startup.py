"""How long a run may try to start.

A pod that never fits or an image that never comes holds its neighbours' GPUs
for nothing; after the deadline the run fails and says what it waited for.
"""

from __future__ import annotations

from datetime import datetime

from footplate_contracts.names import Phase


def remaining(phase: Phase, since: datetime, deadline: float, now: datetime) -> float | None:
    """Seconds left to start in; None for a run that is not starting.

    Args:
        since: when `phase` began.
        deadline: `resilience.startupDeadlineSeconds`.
    """
    if phase is not Phase.STARTING:
        return None
    return deadline - (now - since).total_seconds()
