"""Priority of runs for gauges where there is no room for all; pure.

Each series costs Prometheus memory, so their number is bounded. A run that trains comes before one that
starts, and that before one that waits: a thousand younger runs in the queue take no gauge from it. Runs
without gauges are counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from footplate_contracts.names import Phase

ENDED: Final = frozenset(phase.value for phase in Phase if phase.is_terminal)
_TRAINS: Final = frozenset({Phase.RUNNING, Phase.CHECKPOINTING, Phase.RESTARTING, Phase.SUSPENDING})
_WAITS: Final = frozenset({Phase.QUEUED, Phase.ADMITTED, Phase.SUSPENDED, None})


def group_by_priority(phases: Iterable[str | None]) -> Sequence[Sequence[str | None]]:
    """Return the unfinished `phases` in groups: training, starting, waiting.

    A phase unknown to this release counts as starting; None is the phase of a run that the operator has not
    reconciled yet.

    >>> group_by_priority(["Queued", "Running", None, "Succeeded", "Starting", "Dreaming"])
    [['Running'], ['Starting', 'Dreaming'], ['Queued', None]]
    """
    groups: list[list[str | None]] = [[], [], []]
    for phase in phases:
        if phase not in ENDED:
            groups[0 if phase in _TRAINS else 2 if phase in _WAITS else 1].append(phase)
    return [group for group in groups if group]
