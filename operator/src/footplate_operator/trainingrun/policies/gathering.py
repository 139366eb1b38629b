"""How long a gang that cannot be completed holds what it has.

A pod that fits nowhere, or starts nowhere, holds its mates' GPUs for nothing. A run that never trained
fails after its startup deadline, which tells its user that something is wrong. One that has trained may
go on as soon as there is room, so it gives back what it holds and tries again: now and then, and then for a
short time only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from footplate_contracts.backoff import backoff
from footplate_contracts.names import Phase, Reason
from footplate_contracts.v1alpha1.status import Attempt

FIRST_PAUSE_SECONDS: Final = 60.0
LONGEST_PAUSE_SECONDS: Final = 600.0
RETRY_SECONDS: Final = 60.0  # for a gang that was given back before: where there is room it is there at once


def given_back(attempts: Iterable[Attempt]) -> int:
    """How many times in a row the gang was given back without having trained in between."""
    count = 0
    for attempt in reversed([known for known in attempts if known.end is not None]):
        if attempt.reason != Reason.GANG_INCOMPLETE:
            break
        count += 1
        if attempt.generation:  # it trained before it lost what could not be replaced
            break
    return count


def pause(times: int) -> float:
    """Seconds before the next try of a gang that was given back so many `times` in a row."""
    return backoff(times, first=FIRST_PAUSE_SECONDS, longest=LONGEST_PAUSE_SECONDS)


def patience(deadline: float, times: int) -> float:
    """Seconds that a gang has to be complete in, which was given back so many `times` in a row before."""
    return min(deadline, RETRY_SECONDS) if times else deadline


def overdue(phase: Phase | None, trained: bool, waited: float, deadline: float, times: int) -> bool:
    """Whether a gang of which some pods do not run should be given back.

    Args:
        phase: which has lasted for `waited` seconds.
        trained: the run has finished a step, ever.
        deadline: `resilience.gatherDeadlineSeconds`.
        times: how many times in a row it was given back before.
    """
    if not trained or phase not in (Phase.STARTING, Phase.RESTARTING):
        return False
    return waited >= patience(deadline, times)
