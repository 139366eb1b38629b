"""The attempts, failures and restarts of a run, as its status lists them.

The operator may die between any two calls, so the list is a function of the
status written last and of what is seen now: nothing counts twice, and nothing
is kept anywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from footplate_contracts.failures import MESSAGE_LIMIT, REASON_LIMIT, is_secondary
from footplate_contracts.names import Cause, Reason
from footplate_contracts.v1alpha1.status import ATTEMPT_LIMIT, Attempt
from footplate_operator.runtime.clock import format_time
from footplate_operator.trainingrun.history import History
from footplate_operator.trainingrun.policies.failure import (
    Failure,
    FailureAction,
    FailureDecision,
    Source,
    next_action,
)
from footplate_operator.trainingrun.status.failures import TOLD_BY_KUBERNETES


def begin(history: History) -> History:
    """Open an attempt, unless one is open."""
    if history.open is not None:
        return history
    number = history.attempts[-1].number + 1 if history.attempts else 1
    attempt = Attempt(
        number=number,
        start=format_time(history.now),
        nodes=history.nodes,
        start_step=history.checkpoint_step or 0,
    )
    return replace(history, attempts=(*history.attempts, attempt)[-ATTEMPT_LIMIT:])


def sealed(history: History, generation: str, start_step: int | None, nodes: int) -> History:
    """Note which generation the open attempt trains in, on how many nodes, and where it began."""
    attempt = history.open
    if attempt is None or not generation:
        return history
    update: dict[str, object] = {"generation": generation, "nodes": nodes}
    if start_step is not None:
        update["start_step"] = start_step
    return _with_last(history, attempt.model_copy(update=update))


def end(history: History, reason: str, message: str = "") -> History:
    """Close the open attempt for a reason that is no failure."""
    attempt = history.open
    if attempt is None:
        return history
    return _with_last(history, _closed(history, attempt, reason, message))


def fail(history: History, failure: FailureDecision) -> History:
    """Close the open attempt, if there is one, with the failure that ends the run."""
    if history.open is None:
        return history
    ended = end(history, failure.reason, failure.message)
    return _with_last(ended, ended.attempts[-1].model_copy(update={"cause": failure.cause}))


def interrupt(
    history: History, failure: Failure, budgets: Mapping[str, int]
) -> tuple[History, FailureDecision | None]:
    """The history after a failure, and what the policy makes of it; None where it was known already."""
    if _known(history, failure) is not None:
        return explain(history, failure, budgets)
    report, decision = failure.report, next_action(budgets, history, failure)
    failed = decision.action is FailureAction.FAIL
    history = begin(history)
    attempt = history.open
    assert attempt is not None
    closed = _closed(history, attempt, report.reason, decision.message if failed else report.message)
    ended = closed.model_copy(
        update={
            **_blame(failure),
            "generation": failure.generation or attempt.generation,
            "lost_steps": max(0, (closed.end_step or 0) - (history.checkpoint_step or 0)),
        }
    )
    history = _counted(_with_last(history, ended), report.cause, +1)
    if failed:
        return history, decision
    return begin(replace(history, restarts=history.restarts + 1)), decision


def explain(
    history: History, failure: Failure, budgets: Mapping[str, int]
) -> tuple[History, FailureDecision | None]:
    """The history with a better reason for an end that it knows, and what follows; else as it was."""
    known = _known(history, failure)
    if known is None or not _better(failure, known):
        return history, None
    return _corrected(history, known, failure, budgets)


def renewed(history: History, generation: str, nodes: int) -> History:
    """A newer generation trains on so many `nodes`, and nobody said yet why the last one ended."""
    attempt = history.open
    if attempt is None or attempt.generation in ("", generation):
        return history
    if nodes != attempt.nodes:
        message = f"{nodes} nodes went on instead of {attempt.nodes}"
        return begin(end(history, Reason.RESIZED, message))
    message = f"generation {generation} took over from {attempt.generation}"
    ended = end(history, Reason.RESTARTING, message)
    return begin(replace(ended, restarts=ended.restarts + 1))


def _known(history: History, failure: Failure) -> Attempt | None:
    """The attempt whose end `failure` tells of, if it is written down already."""
    if not failure.generation:
        return None
    for attempt in reversed(history.closed):
        if attempt.generation == failure.generation:
            return attempt
    return None


def _better(failure: Failure, known: Attempt) -> bool:
    """Whether `failure` knows more of why an attempt ended than what is written down.

    An echo is explained by whatever else is told of the same end. A lost agent says no more than its
    silence, which Kubernetes may explain. Apart from that a pod's end hardly says why, and a rank
    that spoke for itself has the last word.
    """
    report = failure.report
    if report.cause is known.cause:
        return False
    if is_secondary(known):
        return True
    if is_secondary(report) and known.cause is not None:
        return False
    if known.cause is Cause.NODE_LOST and report.cause in TOLD_BY_KUBERNETES:
        return True
    if report.cause is Cause.NODE_LOST and known.cause in TOLD_BY_KUBERNETES:
        return False
    return failure.source is Source.COORDINATOR and known.rank is None


def _corrected(
    history: History, ended: Attempt, failure: Failure, budgets: Mapping[str, int]
) -> tuple[History, FailureDecision | None]:
    """The history with `failure` as the end of the attempt `ended`, judged as if it had been told then."""
    if ended.cause is not None:
        history = _counted(history, ended.cause, -1)
    earlier = (attempt for attempt in history.closed if attempt.number < ended.number)
    before = replace(history, attempts=(*earlier, ended.model_copy(update={"end": None})))
    decision = next_action(budgets, before, failure)
    better = ended.model_copy(
        update={
            **_blame(failure),
            "reason": failure.report.reason,
            "message": decision.message[:MESSAGE_LIMIT],
            "node": failure.node or ended.node,
        }
    )
    attempts = tuple(better if attempt.number == ended.number else attempt for attempt in history.attempts)
    return _counted(replace(history, attempts=attempts), failure.report.cause, +1), decision


def _blame(failure: Failure) -> dict[str, object]:
    """Whose failure it was, as an attempt says it; the status knows no negative rank."""
    report = failure.report
    rank = report.rank if report.rank is None or report.rank >= 0 else None
    return {"cause": report.cause, "node": failure.node, "rank": rank, "exit_code": report.exit_code}


def _closed(history: History, attempt: Attempt, reason: str, message: str) -> Attempt:
    return attempt.model_copy(
        update={
            "end": format_time(history.now),
            "end_step": max(history.step, attempt.start_step),
            "reason": reason[:REASON_LIMIT],
            "message": message[:MESSAGE_LIMIT],
        }
    )


def _with_last(history: History, attempt: Attempt) -> History:
    return replace(history, attempts=(*history.attempts[:-1], attempt))


def _counted(history: History, cause: Cause, difference: int) -> History:
    counts = dict(history.failures)
    counts[cause.value] = max(0, counts.get(cause.value, 0) + difference)
    return replace(history, failures={name: count for name, count in sorted(counts.items()) if count})
