"""Deadlines of a gang that holds nodes, or its turn, while some of its workers have none.

A pod that fits nowhere holds the GPUs of its gang for nothing. A gang without nodes keeps its pods pending,
as autoscalers act on nothing else. If an autoscaler adds nodes for a gang, the gang gets the time that those
take.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from footplate_contracts.names import Phase
from footplate_operator.runtime.clock import seconds_between

SHORT_SECONDS: Final = 60.0  # where there is room the scheduler binds all of a gang well within this
PROVISION_SECONDS: Final = 900.0  # cluster-autoscaler's default of --max-node-provision-time


@dataclass(frozen=True)
class NodeHold:
    """Nodes that an incomplete gang holds."""

    since: datetime | None  # when it has held one of them while a worker had none; None: it holds none
    scaled_up: datetime | None = None  # when an autoscaler said that it adds nodes for one of its pods


def get_hold_seconds(deadline: float, stepped: bool, lost_turns: int) -> float:
    """Return the seconds for which a gang may hold nodes while some of its workers have none.

    Args:
        deadline: `resilience.gatherDeadlineSeconds`.
        stepped: the run has finished a step, ever.
        lost_turns: in a row, before this one.
    """
    return deadline if stepped and not lost_turns else min(deadline, SHORT_SECONDS)


def is_turn_over(
    hold: NodeHold, turn_time: datetime, contested: bool, hold_seconds: float, now: datetime
) -> bool:
    """Return whether a gang that gathers, and is incomplete, should delete its pods.

    Args:
        contested: another gang of the profile could gather now.
        hold_seconds: see `get_hold_seconds`.
    """
    if _awaits_nodes(hold, now):
        return False
    if hold.since is not None and seconds_between(hold.since, now) >= hold_seconds:
        return True
    return contested and seconds_between(turn_time, now) >= hold_seconds


def is_overdue(
    phase: Phase | None, stepped: bool, since: datetime, hold: NodeHold, deadline: float, now: datetime
) -> bool:
    """Return whether a gang that has trained, and is incomplete since `since`, should release its nodes."""
    if not stepped or phase not in (Phase.STARTING, Phase.RESTARTING) or _awaits_nodes(hold, now):
        return False
    return seconds_between(since, now) >= deadline


def _awaits_nodes(hold: NodeHold, now: datetime) -> bool:
    return hold.scaled_up is not None and seconds_between(hold.scaled_up, now) < PROVISION_SECONDS
