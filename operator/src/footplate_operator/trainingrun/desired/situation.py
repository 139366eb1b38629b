"""A run and all that can be concluded about it, before anything is decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from footplate_contracts.names import ConditionType, Phase, Reason
from footplate_contracts.reports import CoordinatorState, RunState
from footplate_contracts.v1alpha1.status import TrainingRunStatus
from footplate_operator.runtime.clock import seconds_between
from footplate_operator.runtime.conditions import NewCondition, find
from footplate_operator.trainingrun.gang import coordinator, lost, spares, workers
from footplate_operator.trainingrun.gang.coordinator import CoordinatorPlan
from footplate_operator.trainingrun.gang.spares import SparePlan
from footplate_operator.trainingrun.gang.workers import Slots, WorkerPlan
from footplate_operator.trainingrun.history import History, history_of
from footplate_operator.trainingrun.observed import Observed, PodView
from footplate_operator.trainingrun.policies import diagnosis, startup
from footplate_operator.trainingrun.policies.diagnosis import Diagnosis
from footplate_operator.trainingrun.policies.failure import FailureDecision
from footplate_operator.trainingrun.revision import Revision
from footplate_operator.trainingrun.run import Run
from footplate_operator.trainingrun.status import failures, fields, interruptions, wall_time
from footplate_operator.trainingrun.status.report import report

LAST_ANSWER_SECONDS: Final = 10.0  # that a coordinator has for the last numbers, once its workers ended


@dataclass(frozen=True)
class Situation:
    """The conclusions, each drawn once."""

    run: Run
    revision: Revision
    observed: Observed  # spares that have a slot are workers in it
    now: datetime
    state: CoordinatorState  # of the coordinator that serves now
    coordinator: CoordinatorPlan
    new_epoch: bool  # a coordinator is to be made now
    workers: WorkerPlan
    spares: SparePlan
    promoted: tuple[PodView, ...]  # spares that have a slot and are not labelled so yet
    seen: TrainingRunStatus  # the status written last, with what was seen since
    blocked: float  # seconds of the training, by checkpoints that are new in `seen`
    history: History
    interrupted: bool
    finished: bool  # the last step is trained and saved
    failure: FailureDecision | None  # one that ends the run
    diagnosis: Diagnosis | None  # what holds a pod up
    coordinator_error: str  # what the newest coordinator ended with, while none serves

    def report(
        self, phase: Phase, said: Sequence[NewCondition], seen: TrainingRunStatus | None = None
    ) -> TrainingRunStatus:
        """The next status; `seen`: in place of what was seen, with what was decided."""
        after = seen or self.history.into(self.seen)
        if after.checkpoint is not None:
            message = f"step {after.checkpoint.latest_step} is durable"
            saved = NewCondition(ConditionType.CHECKPOINTED, True, Reason.CHECKPOINT_COMMITTED, message)
            said = [*said, saved]
        return report(self.run, after, phase, said, self.now, self.blocked)


def assess(run: Run, revision: Revision, observed: Observed, now: datetime) -> Situation:
    """What follows from what was seen."""
    known_epoch = run.status.coordinator.epoch if run.status.coordinator else 0
    begun = run.phase not in (None, Phase.QUEUED, Phase.SUSPENDED)
    coordinators = observed.coordinators()
    serving = coordinator.plan(coordinators, known_epoch, begun, now)
    state = _state(observed.coordinator, serving, run.phase)
    promoted = spares.promoted(observed.spares(), state)
    observed = observed.with_pods(promoted)
    pods, waiting = observed.workers(), observed.spares()
    seen = _seen(run, revision, state, serving, coordinators, pods, now)
    before = history_of(run, seen, now)
    slots = Slots(
        nodes=run.spec.compute.nodes,
        counter=run.status.incarnation,
        launched=before.open is not None,
        fresh=not before.attempts,
        lost=lost.abandoned(state) | lost.unheard(state, pods, now),
        may_create=observed.may_create,
        silent=not state.heard,
        spares=spares.ready(state, waiting),
        members=state.member_indices,
    )
    gang = workers.plan(slots, pods, now)
    trained = run.status.world.nodes if run.status.world else revision.frozen.config.world.nodes
    ended = [worker for worker in gang.lost if lost.interrupts(worker, state, trained)]
    record = interruptions.record(run, before, state, ended, pods)
    held_up = diagnosis.worst(observed.pods, now)
    error = _coordinator_error(coordinators, serving)
    return Situation(
        run=run,
        revision=revision,
        observed=observed,
        now=now,
        state=state,
        coordinator=serving,
        new_epoch=observed.may_create and serving.current is None and serving.due <= now,
        workers=gang,
        spares=spares.plan(run.spec.compute.spares, waiting, gang.counter, now),
        promoted=promoted,
        seen=seen.model_copy(update={"failures_seen": failures.format_seen(record.seen)}),
        blocked=wall_time.blocked(run.status.checkpoint, state.checkpoint),
        history=record.history,
        interrupted=record.interrupted or (before.open is not None and not gang.complete),
        finished=_finished(state, gang, serving, now),
        failure=record.failure or _failed_start(run, before, observed, held_up, error, now),
        diagnosis=held_up,
        coordinator_error=error,
    )


def _state(state: CoordinatorState, serving: CoordinatorPlan, phase: Phase | None) -> CoordinatorState:
    """Only the coordinator that serves now is heard; a resumed run has none yet."""
    if serving.current is None:
        return CoordinatorState.silent() if phase is Phase.SUSPENDED else state
    return state if state.epoch == serving.current.epoch else CoordinatorState.silent()


def _seen(
    run: Run,
    revision: Revision,
    state: CoordinatorState,
    serving: CoordinatorPlan,
    coordinators: Sequence[PodView],
    pods: Sequence[PodView],
    now: datetime,
) -> TrainingRunStatus:
    """The status written last, with what coordinator and pods show."""
    seen = fields.told(run.status, state, revision.frozen.config.parallelism, now)
    update = {
        "coordinator": fields.coordinator(run.status, run.name, serving.current, coordinators),
        "replicas": fields.replicas(pods),
    }
    return seen.model_copy(update=update)


def _finished(state: CoordinatorState, gang: WorkerPlan, serving: CoordinatorPlan, now: datetime) -> bool:
    """Whether the last step is trained and saved.

    Where only the pods say so, the coordinator is given a moment to tell
    the last numbers.
    """
    if state.state is RunState.FINISHED:
        return True
    if not gang.succeeded:
        return False
    last = max(pod.end for pod in gang.current)
    return serving.current is None or seconds_between(last, now) >= LAST_ANSWER_SECONDS


def _coordinator_error(coordinators: Sequence[PodView], serving: CoordinatorPlan) -> str:
    """What the newest coordinator ended with, while none serves; empty where one does or none ended."""
    ended = [pod for pod in coordinators if pod.phase == "Failed"]
    if not ended or (serving.current is not None and serving.current.started):
        return ""
    return failures.words(max(ended, key=lambda pod: pod.epoch))


def _failed_start(
    run: Run,
    history: History,
    observed: Observed,
    held_up: Diagnosis | None,
    coordinator_error: str,
    now: datetime,
) -> FailureDecision | None:
    """The end of a run that cannot start; what has trained before is tried again elsewhere."""
    if not startup.untrained(run.phase):
        return None
    if not history.stepped and (hopeless := startup.hopeless(observed.pods, observed.problem, now)):
        return hopeless
    reason = held_up.message if held_up else coordinator_error or _refusal(run) or "not all workers joined"
    deadline = run.spec.resilience.startup_deadline_seconds
    return startup.overdue(run.phase, run.phase_since, deadline, reason, now)


def _refusal(run: Run) -> str:
    """What the API server said when it last refused a child; empty where it did not."""
    known = find(run.status.conditions, ConditionType.RECONCILED)
    return known.message if known is not None and known.status == "False" else ""
