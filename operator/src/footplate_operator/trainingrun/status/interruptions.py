"""Failures on their way into the list of attempts: which are new, and which attempt they ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from footplate_contracts.names import Phase
from footplate_contracts.reports import CoordinatorState, RunState
from footplate_operator.runtime.clock import parse_time
from footplate_operator.trainingrun.history import History
from footplate_operator.trainingrun.observed import LostWorker, PodView
from footplate_operator.trainingrun.policies.failure import FailureAction, FailureDecision
from footplate_operator.trainingrun.run import Run
from footplate_operator.trainingrun.status import attempts, failures


@dataclass(frozen=True)
class HistoryUpdate:
    """The history with the failures that were new."""

    history: History
    seen: failures.Seen
    failure: FailureDecision | None = None  # the first that ends the run
    interrupted: bool = False  # there were any

    def after(self, history: History, decision: FailureDecision | None) -> HistoryUpdate:
        """The record with one more failure in its history, and what the policy made of it."""
        fatal = decision if decision is not None and decision.action is FailureAction.FAIL else None
        return replace(self, history=history, failure=self.failure or fatal)


def record(
    run: Run,
    history: History,
    state: CoordinatorState,
    lost: Iterable[LostWorker],
    workers: Iterable[PodView],
) -> HistoryUpdate:
    """The history of `run` with everything that is new.

    The coordinator's failures come first, as it knows why; then pods that are
    gone, then what Kubernetes came to say of ends that are known.
    """
    budgets = run.spec.resilience.budgets
    known = HistoryUpdate(history, failures.parse_seen(run.status.failures_seen))
    for seen, failure in failures.unseen(state, known.seen):
        known = known.after(*attempts.interrupt(known.history, failure, budgets))
        known = replace(known, seen=seen, interrupted=True)
    if run.phase is not Phase.SUSPENDING:  # then pods end because they were asked to
        for worker in lost:
            failure = failures.from_lost(worker, _trained_in(known.history, worker.pod, run), history.now)
            known = known.after(*attempts.interrupt(known.history, failure, budgets))
            known = replace(known, interrupted=True)
    for failure in failures.explained(state, workers, history.now):
        known = known.after(*attempts.explain(known.history, failure, budgets))
    return replace(known, history=_sealed(known.history, state))


def _trained_in(history: History, pod: PodView | None, run: Run) -> str:
    """The generation that the loss of `pod` ended; empty where it had joined none.

    While the open attempt has none yet, a pod older than that attempt was part
    of the generation before, and its loss is the one that is known already.
    """
    current = history.open
    if current is None or current.generation:
        return current.generation if current else ""
    if pod is not None and pod.created >= parse_time(current.start):
        return ""
    return history.broken or (run.status.world.generation if run.status.world else "")


def _sealed(history: History, state: CoordinatorState) -> History:
    """The attempts, the open one in the generation that the coordinator has sealed."""
    if state.generation is None or state.state is RunState.GATHERING:
        return history
    generation = str(state.generation)
    if generation == history.broken:
        return history
    nodes = len(state.members) or history.nodes
    renewed = attempts.renewed(history, generation, nodes)
    return attempts.sealed(renewed, generation, state.start_step, nodes)
