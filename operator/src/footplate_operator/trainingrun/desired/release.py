"""Reasons for which a gang deletes its pods and waits for its next turn."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from footplate_contracts.coordinator_state import RunState
from footplate_contracts.names import Cause, Phase, Reason
from footplate_operator.runtime.clock import parse_time
from footplate_operator.trainingrun.gang.plan import GangPlan
from footplate_operator.trainingrun.history import WAITS, History
from footplate_operator.trainingrun.policies import gang_deadline
from footplate_operator.trainingrun.policies.diagnosis import PodDiagnosis
from footplate_operator.trainingrun.policies.failure import FRUITLESS_RESTARTS, fruitless_restarts
from footplate_operator.trainingrun.policies.gang_deadline import NodeHold
from footplate_operator.trainingrun.run import Run

FRUITLESS: Final = timedelta(hours=2)  # of restarts without a new durable step
_HOUR: Final = timedelta(hours=1)
_REFUSALS: Final = frozenset({Reason.QUOTA_EXCEEDED, Reason.ADMISSION_REFUSED})


@dataclass(frozen=True)
class NodeRelease:
    """Reason to release a gang's nodes, as one word and as a message."""

    reason: str
    message: str
    lost_turn: bool = True


def find_release(
    run: Run,
    gang: GangPlan,
    history: History,
    held_up: PodDiagnosis | None,
    now: datetime,
) -> NodeRelease | None:
    """Return why `run` deletes its pods now; None if it retains them.

    Args:
        held_up: the diagnosis of a pod that cannot start, if there is one.
    """
    waits = run.status.gathering
    gathers = run.gathers or not run.has_gang
    starting = gathers or (run.phase is Phase.STARTING and not history.stepped)
    if starting and not gang.workers.bound and (refused := _refusal(gang)) is not None:
        return refused
    if run.gathers and not gang.observed.turn.granted:
        what = "a running gang is missing a pod" if gang.observed.turn.yields else "it is another gang's turn"
        return NodeRelease(Reason.WAITING_FOR_TURN, f"{what}; the gang's pods are deleted", lost_turn=False)
    deadline = run.spec.resilience.gather_deadline_seconds
    hold_seconds = gang_deadline.get_hold_seconds(deadline, history.stepped, waits.lost_turns if waits else 0)
    if gathers or starting:
        turn_time = parse_time(waits.turn_time) if waits and waits.turn_time else now
        contested = gathers and gang.observed.turn.contested
        hold = get_hold(gang)
        if not gang.workers.bound and gang_deadline.is_turn_over(
            hold, turn_time, contested, hold_seconds, now
        ):
            return _incomplete(hold_seconds, deadline, held_up)
        return None
    if _is_incomplete(gang):
        hold = NodeHold(None, gang.observed.scaled_up)
        if gang_deadline.is_overdue(run.phase, history.stepped, run.phase_since, hold, hold_seconds, now):
            return _incomplete(hold_seconds, deadline, held_up)
    return _fruitless(run, history, now)


def get_hold(gang: GangPlan) -> NodeHold:
    """Return since when the incomplete `gang` has held nodes while one of its pods waits for one."""
    live = [pod for pod in gang.observed.workers if pod.live]
    bound = [pod.bound_since or pod.created for pod in live if not pod.unbound]
    unbound = [pod.seen_since or pod.created for pod in live if pod.unbound]
    since = max(min(bound), min(unbound)) if bound and unbound else None
    return NodeHold(since, gang.observed.scaled_up)


def _is_incomplete(gang: GangPlan) -> bool:
    complete = gang.workers.complete and all(pod.started for pod in gang.workers.current)
    unheard = gang.state.state is RunState.GATHERING and bool(gang.state.missing)
    return not complete or bool(gang.state.unreachable) or unheard


def _incomplete(hold_seconds: float, deadline: float, held_up: PodDiagnosis | None) -> NodeRelease:
    why = held_up.message if held_up is not None else "not all of its pods run"
    within = f"{hold_seconds:g} s" + (
        " (resilience.gatherDeadlineSeconds)" if hold_seconds == deadline else ""
    )
    return NodeRelease(
        Reason.GANG_INCOMPLETE, f"the gang was not complete within {within}: {why}; its nodes are released"
    )


def _refusal(gang: GangPlan) -> NodeRelease | None:
    problem = gang.observed.problem
    if problem is None or problem.passing or problem.reason not in _REFUSALS:
        return None
    return NodeRelease(problem.reason, f"{problem.message}; all pods of the gang are deleted"[:1024])


def _fruitless(run: Run, history: History, now: datetime) -> NodeRelease | None:
    restarts = fruitless_restarts(history, frozenset(Cause))
    lasts = run.phase is Phase.RESTARTING and restarts >= FRUITLESS_RESTARTS
    if not lasts or _restarting_for(history, now) < FRUITLESS:
        return None
    hours, last = FRUITLESS.total_seconds() / 3600, history.closed[-1].message
    message = f"restarts for {hours:g} h without a new durable step; its nodes are released; last: {last}"
    return NodeRelease(Cause.NO_PROGRESS, message[:1024])


def _restarting_for(history: History, now: datetime) -> timedelta:
    """Return how long restarts have followed each other since the newest checkpoint, or the last release.

    For restarts that are no longer listed only the hour is known: the result is then a lower bound.
    """
    step = history.checkpoint_step or 0
    ends = [parse_time(attempt.end) for attempt in history.closed if attempt.end and attempt.end_step != step]
    firsts = [parse_time(part.hour) + _HOUR for part in history.recent if part.checkpoint_step == step]
    released = [
        parse_time(attempt.end)
        for attempt in history.closed
        if attempt.end and attempt.reason in (*WAITS, Cause.NO_PROGRESS)
    ]
    return max(ends, default=now) - max([min([*ends, *firsts], default=now), *released])
