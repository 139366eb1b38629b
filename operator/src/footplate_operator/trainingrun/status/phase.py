"""Phase of a run that should train.

The coordinator's answers count, and its silence does not: a run whose coordinator
cannot be reached stays in its last known phase.
"""

from __future__ import annotations

from typing import Final

from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_contracts.names import Phase

TRAINING: Final = frozenset({Phase.RUNNING, Phase.CHECKPOINTING})  # the ranks of a generation are at work
_TRAINED: Final = TRAINING | {Phase.RESTARTING}


def active_phase(
    before: Phase | None, state: CoordinatorState, broken: str, current: str, interrupted: bool
) -> Phase:
    """Return Starting, Running, Checkpointing or Restarting.

    Args:
        before: the phase written last.
        state: the coordinator's last answer.
        broken: the generation that the newest interruption ended; empty for none.
        current: the generation of the running attempt; empty while none is sealed.
        interrupted: an interruption was seen just now, or a worker is missing.
    """
    trained = before in _TRAINED
    waiting = Phase.RESTARTING if trained else Phase.STARTING
    if not state.is_received:
        return waiting if interrupted or not trained else before or waiting
    generation = str(state.generation) if state.generation else ""
    if state.state is RunState.TRAINING:
        if generation == broken and broken:
            return waiting
        return Phase.CHECKPOINTING if state.progress.saving else Phase.RUNNING
    if before in TRAINING and not interrupted and _merely_met(state, generation, current):
        return before
    return waiting


def _merely_met(state: CoordinatorState, generation: str, current: str) -> bool:
    """Return whether a new coordinator has no agents yet, or has just adopted their generation."""
    if not generation:
        return True
    return state.state is RunState.LOADING and generation == current
