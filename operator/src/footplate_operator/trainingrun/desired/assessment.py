"""Conclusions about a run, before anything is decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from footplate_contracts.coordinator_state import RunState
from footplate_contracts.directives import Directives
from footplate_contracts.names import ConditionType, Phase, Reason, Role
from footplate_contracts.v1alpha1.status import TrainingRunStatus
from footplate_operator.runtime.clock import seconds_between
from footplate_operator.runtime.conditions import NewCondition
from footplate_operator.trainingrun import failure_window
from footplate_operator.trainingrun.desired.release import NodeRelease, find_release
from footplate_operator.trainingrun.directives import directives
from footplate_operator.trainingrun.gang.plan import GangPlan, plan
from footplate_operator.trainingrun.history import History, history_of
from footplate_operator.trainingrun.observation import Observed, PodView
from footplate_operator.trainingrun.policies import diagnosis, startup
from footplate_operator.trainingrun.policies.diagnosis import PodDiagnosis
from footplate_operator.trainingrun.policies.failure import FailureDecision
from footplate_operator.trainingrun.revision import Revision
from footplate_operator.trainingrun.run import Run
from footplate_operator.trainingrun.status import attempts, failures, observed_fields, wall_time
from footplate_operator.trainingrun.status.report import report

ON_ITS_WAY_SECONDS: Final = 10.0  # from the first look at a pod until its image is there, or known not to be
LAST_ANSWER_SECONDS: Final = 10.0  # that a coordinator has for the last numbers, once its workers ended


@dataclass(frozen=True)
class RunAssessment:
    """Conclusions about a run, each drawn once."""

    run: Run
    revision: Revision
    gang: GangPlan
    wanted: Directives  # how the gang should be
    now: datetime
    seen: TrainingRunStatus  # the status written last, with what was seen since
    history: History
    interrupted: bool
    finished: bool  # the last step is trained and saved
    closed: bool  # its ranks were told to save and end, and did, or had nothing to save
    failure: FailureDecision | None  # one that ends the run
    diagnosis: PodDiagnosis | None  # what holds a pod up
    release: NodeRelease | None  # why its gang deletes its pods now
    coordinator_error: str  # what the newest coordinator ended with, while none serves

    def report(
        self, phase: Phase, said: Sequence[NewCondition], history: History, **decided: object
    ) -> TrainingRunStatus:
        """Build the next status: the observed one, with `history` and the `decided` fields."""
        so_far = {
            "attempts": list(history.attempts),
            "failures": dict(history.failures),
            "restarts": history.restarts,
        }
        recent = failure_window.prune_failures(history.recent, history.checkpoint_steps, self.now)
        after = self.seen.model_copy(update=so_far | decided).update_internal(recent_failures=list(recent))
        if after.checkpoint is not None:
            message = f"step {after.checkpoint.latest_step} is durable"
            saved = NewCondition(ConditionType.CHECKPOINTED, True, Reason.CHECKPOINT_COMMITTED, message)
            said = [*said, saved]
        blocked = wall_time.blocked(self.run.status.checkpoint, self.gang.state.checkpoint)
        return report(self.run, after, phase, said, self.now, blocked)


def assess(run: Run, revision: Revision, observed: Observed, now: datetime) -> RunAssessment:
    """Draw the conclusions from what was observed."""
    frozen = revision.frozen.config
    gang = plan(run, observed, frozen.world.nodes, now)
    state, pods = gang.state, gang.observed
    told = observed_fields.update_status(run, state, gang.coordinator.current, pods, frozen.parallelism, now)
    before = history_of(run, told, now)
    failed = failures.find_new_failures(run, state, gang.interrupting, pods.workers, now)
    history, failure = attempts.record(before, failed, state, run.spec.resilience.restart_limits)
    held_up = diagnosis.worst(pods.pods, now)
    error = _coordinator_error(gang)
    return RunAssessment(
        run=run,
        revision=revision,
        gang=gang,
        wanted=directives(
            run, gone=gang.gone, domains=observed.packing.domains if observed.packing is not None else None
        ),
        now=now,
        seen=told.update_internal(
            failures_seen=failed.counted, failures_seen_by_cause=dict(failed.counted_by_cause)
        ),
        history=history,
        interrupted=bool(failed.new) or (before.open is not None and not gang.workers.steady),
        finished=_finished(gang, now),
        closed=gang.is_closed,
        failure=failure
        or startup.find_startup_failure(
            run, before.stepped, pods, held_up, _general(gang, history, now), error, now
        ),
        release=find_release(run, gang, history, held_up, now),
        diagnosis=held_up,
        coordinator_error=error,
    )


def _general(gang: GangPlan, history: History, now: datetime) -> PodDiagnosis | None:
    """Return the diagnosis of pods that no other node would mend.

    Another node may mend a pod if others of the same image have started; while one of them may still start,
    or a worker is still to be created, that may yet show. After a disturbance the pods that had started may
    be gone.
    """
    coming = {pod.role for pod in gang.observed.pods if pod.started or _on_its_way(pod, now)}
    coordinator = Role.COORDINATOR in coming or any(pod.epoch > 1 for pod in gang.observed.coordinators)
    # Workers and spares have one image, and one node may do for both.
    worker = bool(coming - {Role.COORDINATOR}) or history.disturbed or not gang.workers.complete
    hopeless = [
        pod for pod in gang.observed.pods if not (coordinator if pod.role == Role.COORDINATOR else worker)
    ]
    return diagnosis.worst(hopeless, now)


def _on_its_way(pod: PodView, now: datetime) -> bool:
    return pod.live and diagnosis.diagnose(pod) is None and pod.seen_for(now) < ON_ITS_WAY_SECONDS


def _finished(gang: GangPlan, now: datetime) -> bool:
    """Return whether the last step is trained and saved.

    If only the pods say so, the coordinator has LAST_ANSWER_SECONDS to report
    the last numbers.
    """
    if gang.state.state is RunState.FINISHED:
        return True
    if not gang.workers.succeeded:
        return False
    last = max(pod.end for pod in gang.workers.current)
    return gang.coordinator.current is None or seconds_between(last, now) >= LAST_ANSWER_SECONDS


def _coordinator_error(gang: GangPlan) -> str:
    """Return the error of the newest failed coordinator; empty if one serves or none failed."""
    ended = [pod for pod in gang.observed.coordinators if pod.phase == "Failed"]
    serving = gang.coordinator.current
    if not ended or (serving is not None and serving.started):
        return ""
    return failures.describe_pod_end(max(ended, key=lambda pod: pod.epoch))
