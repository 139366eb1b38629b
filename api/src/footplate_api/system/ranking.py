"""Which runs have gauges first where there is no room for all; pure.

A series for each run and number is what Prometheus pays for, so their number is bounded. A run
that trains comes before one that begins to, that before one that waits: a thousand younger ones
in the queue take no gauge from it. What is left out is counted, never silent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from footplate_contracts.names import Phase

ENDED: Final = frozenset(phase.value for phase in Phase if phase.terminal)
_TRAINS: Final = frozenset({Phase.RUNNING, Phase.CHECKPOINTING, Phase.RESTARTING, Phase.SUSPENDING})
_WAITS: Final = frozenset({Phase.QUEUED, Phase.ADMITTED, Phase.SUSPENDED, None})


def ranks(phases: Iterable[str | None]) -> Sequence[Sequence[str | None]]:
    """Those of `phases` whose runs have not ended, in groups: who trains, who begins to, who waits.

    A phase that this release does not know stands with the beginners; None is that of a run
    which the operator has not looked at yet.

    >>> ranks(["Queued", "Running", None, "Succeeded", "Starting", "Dreaming"])
    [['Running'], ['Starting', 'Dreaming'], ['Queued', None]]
    """
    groups: list[list[str | None]] = [[], [], []]
    for phase in phases:
        if phase not in ENDED:
            groups[0 if phase in _TRAINS else 2 if phase in _WAITS else 1].append(phase)
    return [group for group in groups if group]
