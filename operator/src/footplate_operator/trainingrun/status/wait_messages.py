"""Messages for a run that waits for nodes: its place, the missing workers, and since when."""

from __future__ import annotations

from datetime import datetime

from footplate_contracts.names import Reason
from footplate_contracts.v1alpha1.status import GatheringStatus
from footplate_operator.runtime.clock import format_time, parse_time
from footplate_operator.trainingrun.observation import GangTurn
from footplate_operator.trainingrun.run import Run


def waiting_for_turn(run: Run, gathering: GatheringStatus, turn: GangTurn) -> tuple[str, str]:
    """Return reason and message for a run without pods that waits for its turn or its next try."""
    since = _second(parse_time(gathering.since))
    missing = f"{run.spec.compute.nodes} workers have waited for nodes since {since}"
    place = _place(run, turn)
    if turn.retry is not None:
        last = run.status.attempts[-1] if run.status.attempts else None
        reason, why = (last.reason, f"; last: {last.message}") if last else (Reason.GANG_INCOMPLETE.value, "")
        retry = f"retries when a Node is added or a run ends, at {_second(turn.retry)} at the latest"
        return reason, f"{missing}; {place}; {retry}{why}"[:1024]
    behind = "a running gang is missing a pod" if turn.yields else "another gang is starting"
    return Reason.WAITING_FOR_TURN, f"{missing}; {place}; {behind}"


def without_node(run: Run, unbound: int, turn: GangTurn) -> str:
    """Describe the workers without a node, of a gang that has pods."""
    waits = run.status.gathering
    since = parse_time(waits.since) if waits is not None else run.phase_since
    said = f"{unbound} of {run.spec.compute.nodes} workers have no node, waiting since {_second(since)}"
    return f"{said}; {_place(run, turn)}" if turn.waiting > 1 else said


def _place(run: Run, turn: GangTurn) -> str:
    return f"place {turn.place} of {turn.waiting} in profile {run.spec.compute.profile}"


def _second(moment: datetime) -> str:
    return format_time(moment, "seconds")
