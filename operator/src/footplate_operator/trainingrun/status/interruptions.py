"""Failures on their way into the list of attempts: which are new, and which attempt they ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from footplate_contracts.names import Phase
from footplate_contracts.reports import CoordinatorState, RunState
from footplate_operator.runtime.clock import parse_time
from footplate_operator.trainingrun.observed import Loss, PodView
from footplate_operator.trainingrun.policies.failure import Action, Verdict
from footplate_operator.trainingrun.run import Run
from footplate_operator.trainingrun.status import attempts, evidence
from footplate_operator.trainingrun.status.attempts import AttemptContext, AttemptLog


@dataclass(frozen=True)
class Record:
    """The attempts with the failures that were new."""

    log: AttemptLog
    seen: evidence.Seen
    failure: Action | None = None  # the first that ends the run
    interrupted: bool = False  # there were any

    def with_failure(self, context: AttemptContext, interruption: evidence.Interruption) -> Record:
        """The record after one more failure."""
        log, action = attempts.interrupt(self.log, context, interruption)
        return replace(self, log=log, failure=self.failure or _fatal(action), interrupted=True)

    def with_explanation(self, context: AttemptContext, interruption: evidence.Interruption) -> Record:
        """The record with what is said of an end that it knows."""
        log, action = attempts.explain(self.log, context, interruption)
        return replace(self, log=log, failure=self.failure or _fatal(action))


def record(
    run: Run,
    context: AttemptContext,
    state: CoordinatorState,
    losses: Iterable[Loss],
    workers: Iterable[PodView],
) -> Record:
    """The attempts of `run` with everything that is new.

    The coordinator's failures come first, as it knows why; then pods that are
    gone, then what Kubernetes came to say of ends that are known.
    """
    known = Record(attempts.from_status(run.status), evidence.parse_seen(run.status.failures_seen))
    for seen, interruption in evidence.news(state, known.seen):
        known = replace(known.with_failure(context, interruption), seen=seen)
    if run.phase is not Phase.SUSPENDING:  # then pods end because they were asked to
        for loss in losses:
            generation = _trained_in(known.log, loss.pod, run)
            known = known.with_failure(context, evidence.from_loss(loss, generation, context.now))
    for interruption in evidence.explained(state, workers, context.now):
        known = known.with_explanation(context, interruption)
    return replace(known, log=_sealed(known.log, context, state))


def _fatal(action: Action | None) -> Action | None:
    return action if action is not None and action.verdict is Verdict.FAIL else None


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
    return log.broken or (run.status.world.generation if run.status.world else "")


def _sealed(log: AttemptLog, context: AttemptContext, state: CoordinatorState) -> AttemptLog:
    """The attempts, the open one in the generation that the coordinator has sealed."""
    if state.generation is None or state.state is RunState.GATHERING:
        return log
    generation = str(state.generation)
    if generation == log.broken:
        return log
    nodes = len(state.members) or context.nodes
    renewed = attempts.renewed(log, context, generation, nodes)
    return attempts.sealed(renewed, generation, state.start_step, nodes)
