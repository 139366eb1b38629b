"""A run and all that can be concluded about it, before anything is decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from footplate_contracts.names import Cause, ConditionType, Phase, Reason
from footplate_contracts.reports import CoordinatorState, RunState, TermsCommand
from footplate_operator.runtime.clock import parse_time, seconds_between
from footplate_operator.trainingrun.gang import coordinator, spares, workers
from footplate_operator.trainingrun.observed import Loss, Observed, PodView
from footplate_operator.trainingrun.policies import startup
from footplate_operator.trainingrun.policies.diagnosis import Diagnosis, diagnose, waited
from footplate_operator.trainingrun.policies.failure import Action, Verdict
from footplate_operator.trainingrun.revision import Revision, terms
from footplate_operator.trainingrun.run import Run
from footplate_operator.trainingrun.status import attempts, evidence, fields
from footplate_operator.trainingrun.status.attempts import AttemptContext, AttemptLog

# Nothing has been trained since the run was admitted, so there is nothing to save or to wait for.
UNTRAINED = frozenset({None, Phase.QUEUED, Phase.ADMITTED, Phase.STARTING, Phase.SUSPENDED})

LAST_WORD_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Situation:
    """The conclusions. `failure` is one that ends the run."""

    run: Run
    revision: Revision
    observed: Observed
    now: datetime
    state: CoordinatorState | None  # of the coordinator that serves now
    leader: coordinator.CoordinatorPlan
    gang: workers.WorkerPlan
    reserve: spares.SparePlan
    promoted: tuple[PodView, ...]  # spares that have a place and are not labelled so yet
    log: AttemptLog
    context: AttemptContext
    seen: evidence.Seen
    interrupted: bool
    failure: Action | None
    diagnosis: Diagnosis | None

    @property
    def nodes(self) -> int:
        """Places in the gang."""
        return self.run.spec.compute.nodes

    @property
    def training(self) -> frozenset[int] | None:
        """Indices of the workers that train, or trained last; None where nobody says.

        A new coordinator says nothing before it has heard who trains.
        """
        return frozenset(each.agent.index for each in self.state.members) or None if self.state else None

    @property
    def new_terms(self) -> TermsCommand | None:
        """Length and checkpoints that the coordinator should be told of; None where it knows them."""
        wanted = terms(self.run)
        known = self.state.terms if self.state is not None else None
        return wanted if known not in (None, wanted) else None

    @property
    def making(self) -> bool:
        """Whether what is missing can be made; False right after a refusal."""
        return self.observed.problem is None

    @property
    def stalled(self) -> str:
        """What the newest coordinator ended with, while none serves; empty where one does or none ended."""
        ended = [pod for pod in self.observed.coordinators() if pod.phase == "Failed"]
        current = self.leader.current
        if not ended or (current is not None and current.started):
            return ""
        return evidence.words(max(ended, key=lambda pod: pod.epoch))

    @property
    def finished(self) -> bool:
        """Whether the last step is trained and saved.

        Where only the pods say so, the coordinator is given a moment to tell
        the last numbers.
        """
        if self.state is not None and self.state.state is RunState.FINISHED:
            return True
        if not self.gang.succeeded:
            return False
        last = max(pod.end for pod in self.gang.current)
        return self.leader.current is None or seconds_between(last, self.now) >= LAST_WORD_SECONDS


@dataclass(frozen=True)
class _Telling:
    """The log while new failures are worked in."""

    log: AttemptLog
    seen: evidence.Seen
    failure: Action | None = None
    interrupted: bool = False


def assess(run: Run, revision: Revision, observed: Observed, now: datetime) -> Situation:
    """What follows from what was seen."""
    known_epoch = run.status.coordinator.epoch if run.status.coordinator else 0
    begun = run.phase not in (None, Phase.QUEUED, Phase.SUSPENDED)
    leader = coordinator.plan(observed.coordinators(), known_epoch, begun, now)
    state = _current(observed.coordinator, leader, run.phase)
    observed, promoted = spares.promoted(observed, state)
    log = attempts.from_status(run.status)
    making = observed.problem is None
    lost = evidence.abandoned(state) | evidence.unheard(state, observed.workers(), now)
    places = replace(_places(run, log, lost, making), unheard=state is None)
    if state is not None:
        seats = frozenset(member.agent.index for member in state.members)
        places = replace(places, spares=spares.ready(state, observed), seats=seats)
    gang = workers.plan(places, observed.workers(), now)
    context = _context(run, state, now)
    trained = run.status.world.nodes if run.status.world else revision.frozen.config.world.nodes
    losses = [loss for loss in gang.losses if evidence.counts(loss, state, trained)]
    told = _explained(_tell(log, context, losses, run, state), context, state, observed)
    situation = Situation(
        run=run,
        revision=revision,
        observed=observed,
        now=now,
        state=state,
        leader=leader,
        gang=gang,
        reserve=spares.plan(run.spec.compute.spares, observed.spares(), gang.counter, now),
        promoted=promoted,
        log=_sealed(told.log, context, state),
        context=context,
        seen=told.seen,
        interrupted=told.interrupted or (log.open is not None and not gang.complete),
        failure=told.failure,
        diagnosis=_worst(observed, now),
    )
    return situation if situation.failure else replace(situation, failure=_given_up(situation))


def broken_generation(log: AttemptLog) -> str:
    """The generation that the newest interruption ended; empty for none."""
    return log.closed[-1].generation if log.closed else ""


def since(run: Run) -> datetime:
    """Since when the phase is what it is."""
    return parse_time(run.status.phase_time) if run.status.phase_time else run.created


def _current(
    state: CoordinatorState | None, leader: coordinator.CoordinatorPlan, phase: Phase | None
) -> CoordinatorState | None:
    """Only the coordinator that serves now is heard; a resumed run has none yet."""
    if state is None:
        return None
    if leader.current is None:
        return None if phase is Phase.SUSPENDED else state
    return state if state.epoch == leader.current.epoch else None


def _places(run: Run, log: AttemptLog, lost: frozenset[tuple[int, int]], making: bool) -> workers.Places:
    return workers.Places(
        nodes=run.spec.compute.nodes,
        counter=run.status.incarnation,
        launched=log.open is not None,
        fresh=not log.attempts,
        lost=lost,
        making=making,
    )


def _context(run: Run, state: CoordinatorState | None, now: datetime) -> AttemptContext:
    progress = fields.progress(run.status, state, now)
    checkpoint = fields.checkpoint(run.status, state)
    step = progress.step if progress else 0
    reached = max([step, *(attempt.end_step or 0 for attempt in run.status.attempts)])
    return AttemptContext(
        now=now,
        created=run.created,
        budgets=run.spec.resilience.budgets,
        step=step,
        checkpoint_step=checkpoint.latest_step if checkpoint else None,
        checkpoint_every=run.spec.checkpoint.every_steps,
        nodes=run.spec.compute.nodes,
        stepped=reached > 0,
    )


def _tell(
    log: AttemptLog,
    context: AttemptContext,
    losses: Sequence[Loss],
    run: Run,
    state: CoordinatorState | None,
) -> _Telling:
    """The log with everything that is new: the coordinator's word first, as it knows why."""
    telling = _Telling(log, evidence.parse_seen(run.status.failures_seen))
    for seen, interruption in evidence.news(state, telling.seen):
        telling = replace(_heard(telling, context, interruption), seen=seen)
    if run.phase is Phase.SUSPENDING:
        return telling  # pods end because they were asked to
    for loss in losses:
        generation = _trained_in(telling.log, loss.pod, run)
        telling = _heard(telling, context, evidence.from_loss(loss, generation, context.now))
    return telling


def _heard(telling: _Telling, context: AttemptContext, interruption: evidence.Interruption) -> _Telling:
    log, action = attempts.interrupt(telling.log, context, interruption)
    fatal = action if action is not None and action.verdict is Verdict.FAIL else None
    return replace(telling, log=log, failure=telling.failure or fatal, interrupted=True)


def _explained(
    telling: _Telling, context: AttemptContext, state: CoordinatorState | None, observed: Observed
) -> _Telling:
    """The log with what Kubernetes came to say of ends that it knows."""
    for interruption in evidence.explained(state, observed.workers(), context.now):
        log, action = attempts.explain(telling.log, context, interruption)
        fatal = action if action is not None and action.verdict is Verdict.FAIL else None
        telling = replace(telling, log=log, failure=telling.failure or fatal)
    return telling


def _trained_in(log: AttemptLog, pod: PodView | None, run: Run) -> str:
    """The generation that the loss of `pod` ended; empty where it had joined none.

    While the open attempt has none yet, a pod older than that attempt was part
    of the generation before, and its loss is the one that is known already.
    """
    current = log.open
    if current is None or current.generation:
        return current.generation if current else ""
    if pod is not None and pod.created >= parse_time(current.start):
        return ""
    return broken_generation(log) or (run.status.world.generation if run.status.world else "")


def _sealed(log: AttemptLog, context: AttemptContext, state: CoordinatorState | None) -> AttemptLog:
    if state is None or state.generation is None or state.state is RunState.GATHERING:
        return log
    generation = str(state.generation)
    if generation == broken_generation(log):
        return log
    nodes = len(state.members) or context.nodes
    renewed = attempts.renewed(log, context, generation, nodes)
    return attempts.sealed(renewed, generation, state.start_step, nodes)


def _worst(observed: Observed, now: datetime) -> Diagnosis | None:
    """The diagnosis that leaves the least hope."""
    found = [(diagnose(pod), waited(pod, now)) for pod in observed.pods]
    known = [(diagnosis.patience - time, diagnosis) for diagnosis, time in found if diagnosis is not None]
    return min(known, key=lambda each: (each[0], each[1].message))[1] if known else None


def _given_up(situation: Situation) -> Action | None:
    """Whether waiting on has no use: what never trained ends, what has trained is retried elsewhere."""
    if situation.run.phase not in UNTRAINED:
        return None
    if not situation.context.stepped:
        hopeless = _hopeless(situation)
        if hopeless is not None:
            return hopeless
    deadline = situation.run.spec.resilience.startup_deadline_seconds
    left = startup.remaining(
        situation.run.phase or Phase.QUEUED, since(situation.run), deadline, situation.now
    )
    if left is None or left > 0:
        return None
    why = situation.diagnosis.message if situation.diagnosis else situation.stalled or _refusal(situation.run)
    why = why or "not all workers joined"
    message = f"not started within {deadline} s (resilience.startupDeadlineSeconds): {why}"
    return _failed(Reason.STARTUP_DEADLINE, message)


def _refusal(run: Run) -> str:
    """What the API server said when it last refused a child; empty where it did not."""
    for known in run.status.conditions:
        if known.type == ConditionType.RECONCILED and known.status == "False":
            return known.message
    return ""


def _hopeless(situation: Situation) -> Action | None:
    for pod in situation.observed.pods:
        diagnosis = diagnose(pod)
        if diagnosis is not None and diagnosis.hopeless(waited(pod, situation.now)):
            return _failed(diagnosis.reason, diagnosis.message)
    problem = situation.observed.problem
    if problem is not None and problem.final:
        return _failed(problem.reason, problem.message)
    for pod in situation.observed.coordinators():
        if pod.ended and pod.exit_code == evidence.CONFIG_CODE:
            said = pod.message or "see its log"
            return _failed(Reason.CONFIG_REFUSED, f"the coordinator refused its configuration: {said}")
    return None


def _failed(reason: Reason, message: str) -> Action:
    return Action(Verdict.FAIL, Cause.IMAGE_OR_CONFIG, reason.value, message)
