"""Observed fields of a run's status, from its coordinator and pods.

If nothing was observed, the status written last stays.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_contracts.names import ConditionType, coordinator_pod_name
from footplate_contracts.v1alpha1.parallelism import Parallelism
from footplate_contracts.v1alpha1.status import (
    Condition,
    CoordinatorStatus,
    DataLineage,
    ProgressStatus,
    TrainingRunStatus,
    WorldStatus,
)
from footplate_operator.runtime import conditions
from footplate_operator.runtime.clock import format_time
from footplate_operator.trainingrun.observation import Observed, PodView
from footplate_operator.trainingrun.run import Run
from footplate_operator.trainingrun.status import dropped_telemetry
from footplate_operator.trainingrun.status.checkpoints import checkpoints


def update_status(
    run: Run,
    state: CoordinatorState,
    serving: PodView | None,
    pods: Observed,
    parallelism: Parallelism,
    now: datetime,
) -> TrainingRunStatus:
    """Return the status of `run` with its coordinator's report, and the pods that exist.

    Args:
        state: of the coordinator that is to be believed.
        serving: that coordinator, if there is one.
        parallelism: the parallelism that ranks were started with.
    """
    before = dropped_telemetry.count_dropped(run.status, state)
    return before.model_copy(
        update={
            "progress": _progress(before, state, now),
            "data": _data(before, state),
            "checkpoint": checkpoints(run, state.checkpoint, state.checkpoint_steps),
            "world": _world(before, state, parallelism),
            "coordinator": _coordinator(run, serving, pods.coordinators),
            "replicas": _replicas(pods),
            "conditions": update_conditions(run, pods, now),
        }
    )


def update_ended_status(run: Run, observed: Observed, now: datetime) -> TrainingRunStatus:
    """Return the status of `run` with reports that arrived after it had ended or was suspended.

    A coordinator may report a checkpoint long after its step: that step was known while it was written.
    """
    state = observed.coordinator
    before = dropped_telemetry.count_dropped(run.status, state)
    gone_on = state.progress.step > (before.progress.step if before.progress else 0)
    update: dict[str, object] = {
        "replicas": _replicas(observed),
        "conditions": update_conditions(run, observed, now),
        "checkpoint": checkpoints(run),  # marks come and go
        "progress": _at_nothing(before.progress),
        "data": _data(before, state),
    }
    if gone_on:
        update["progress"] = _at_nothing(_progress(before, state, now))
    if gone_on or _newer(before, state):
        update["checkpoint"] = checkpoints(run, state.checkpoint, state.checkpoint_steps)
    return before.model_copy(update=update)


def update_conditions(run: Run, observed: Observed, now: datetime) -> list[Condition]:
    """Return the conditions of `run` with that of its budget; without it for a run without a budget."""
    known, spending = run.status.conditions, observed.spending
    if spending is None:
        return [other for other in known if other.type != ConditionType.WITHIN_BUDGET]
    return conditions.merge(known, [spending.condition], run.generation, now)


def _newer(before: TrainingRunStatus, state: CoordinatorState) -> bool:
    """Return whether `state` knows a later checkpoint, or one of the same step."""
    known, told = before.checkpoint, state.checkpoint
    return told is not None and (known is None or told.step >= known.latest_step)


def _progress(before: TrainingRunStatus, state: CoordinatorState, now: datetime) -> ProgressStatus | None:
    """Return the training's progress; a coordinator without a step, as it has just begun, changes nothing."""
    if not state.is_received:
        return before.progress
    seen = state.progress
    known = before.progress
    if seen.time is None and seen.step == 0 and seen.phase is None and known is not None:
        return _at_nothing(known)
    left = max(0, seen.total_steps - seen.step)
    remaining = None if seen.step_seconds is None else int(left * seen.step_seconds)
    after = ProgressStatus(
        step=seen.step,
        total_steps=seen.total_steps,
        tokens=seen.tokens or (known.tokens if known else 0),
        loss=_finite(seen.loss) if seen.loss is not None else (known.loss if known else None),
        percentage=round(min(100.0, 100.0 * seen.step / seen.total_steps), 1) if seen.total_steps else 0.0,
        estimated_remaining_seconds=0 if state.state is RunState.FINISHED else remaining,
        phase=seen.phase,
        completed_items=seen.finished,
        last_updated_time=known.last_updated_time if known else None,
    )
    return after if after == known else after.model_copy(update={"last_updated_time": format_time(now)})


def _data(before: TrainingRunStatus, state: CoordinatorState) -> DataLineage | None:
    """Return the digests of data read and written; a reported one stays, as coordinators may be replaced."""
    known, told = before.data or DataLineage(), state.progress
    after = DataLineage(digest=told.data or known.digest, answers=told.answers or known.answers)
    return before.data if after == known else after


def _at_nothing(known: ProgressStatus | None) -> ProgressStatus | None:
    """Return `known` without the ranks' activities besides computing."""
    if known is None or (known.phase is None and known.completed_items is None):
        return known
    return known.model_copy(update={"phase": None, "completed_items": None})


def _world(
    before: TrainingRunStatus, state: CoordinatorState, parallelism: Parallelism
) -> WorldStatus | None:
    """Return the generation that trains, or trained last."""
    if state.generation is None or not state.members:
        return before.world
    ranks = sum(member.agent.local_world_size for member in state.members)
    slice_size = parallelism.tensor * parallelism.pipeline * parallelism.context
    return WorldStatus(
        nodes=len(state.members),
        ranks=ranks,
        generation=str(state.generation),
        tensor=parallelism.tensor,
        pipeline=parallelism.pipeline,
        data=max(1, ranks // slice_size),
        spares=sum(agent.is_spare for agent in state.waiting),
    )


def _coordinator(run: Run, serving: PodView | None, pods: Iterable[PodView]) -> CoordinatorStatus | None:
    """Return the coordinator that serves; while none does, the highest epoch of `pods` or status."""
    if serving is not None and serving.epoch >= max((pod.epoch for pod in pods), default=0):
        return CoordinatorStatus(
            pod_name=serving.name, pod_uid=serving.uid, address=serving.address, epoch=serving.epoch
        )
    epoch = max((pod.epoch for pod in pods), default=0)
    known = run.status.coordinator
    if known is not None and known.epoch >= epoch:
        return known
    return CoordinatorStatus(pod_name=coordinator_pod_name(run.name, epoch), epoch=epoch) if epoch else None


def _replicas(pods: Observed) -> int:
    """Count the worker pods that exist and have not ended."""
    return sum(pod.live for pod in pods.workers)


def _finite(value: float) -> float | None:
    """Round for people, as the history has every digit; None for NaN and infinity, which JSON lacks."""
    return round(value, 4) if value == value and abs(value) != float("inf") else None
