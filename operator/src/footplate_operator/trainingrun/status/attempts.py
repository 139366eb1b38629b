"""Attempts, failures and restarts of a run in its status.

The operator may die between any two calls, so the list is a function of the
status written last and of the observed state: nothing counts twice, and nothing
is stored anywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_contracts.failures import MESSAGE_LIMIT, REASON_LIMIT, is_secondary
from footplate_contracts.names import Cause, Reason
from footplate_contracts.v1alpha1.status import ATTEMPT_LIMIT, Attempt
from footplate_operator.runtime.clock import from_epoch, parse_time
from footplate_operator.trainingrun import failure_window
from footplate_operator.trainingrun.history import WAITS, History
from footplate_operator.trainingrun.policies.failure import (
    FailureAction,
    FailureDecision,
    FailureSource,
    RunFailure,
    find_exceeded_limit,
    next_action,
)
from footplate_operator.trainingrun.status.failures import FailureUpdate


def record(
    history: History, seen: FailureUpdate, state: CoordinatorState, limits: Mapping[str, int]
) -> tuple[History, FailureDecision | None]:
    """Return the history with all failures of `seen`, and the first failure that ends the run, if one does.

    Args:
        history: from the status written last.
        state: of the coordinator, which reports the generation of the open attempt.
        limits: restarts allowed by cause, beside the defaults.
    """
    history = _with_unlisted(history, seen)
    decisions = [find_exceeded_limit(limits, history, seen.unlisted)]
    for failure in seen.new:
        history = _named(history, failure)
        history, decision = interrupt(history, _placed(history, failure), limits)
        decisions.append(decision)
    for failure in seen.explanations:
        if _known(history, failure) is not None:
            history, decision = interrupt(history, failure, limits)
            decisions.append(decision)
    fatal = (made for made in decisions if made is not None and made.action is FailureAction.FAIL)
    return _in_generation(history, state), next(fatal, None)


def interrupt(
    history: History, failure: RunFailure, limits: Mapping[str, int]
) -> tuple[History, FailureDecision | None]:
    """Return the history after `failure`, and the policy's decision on it.

    For an end that is recorded already, `failure` is at most a better reason; if it is
    none, the history stays, but for a later step, and the decision is None.
    """
    known = _known(history, failure)
    if known is not None and not _better(failure, known):
        return _reached(history, known, failure), None
    # A better reason is judged as if it had been told then.
    decision = next_action(limits, history if known is None else _before(history, known), failure)
    if known is not None:
        return _corrected(history, known, failure, decision), decision
    return _interrupted(history, failure, decision), decision


def begin(history: History) -> History:
    """Open an attempt, unless one is open."""
    if history.open is not None:
        return history
    number = history.attempts[-1].number + 1 if history.attempts else 1
    attempt = Attempt(
        number=number,
        start=history.time,
        nodes=history.nodes,
        incarnation=history.incarnation if history.attempts else None,
        start_step=history.checkpoint_step or 0,
    )
    return replace(history, attempts=(*history.attempts, attempt)[-ATTEMPT_LIMIT:])


def with_generation(history: History, generation: str, start_step: int | None, nodes: int) -> History:
    """Write the open attempt's generation, its number of nodes, and its first step."""
    attempt = history.open
    if attempt is None or not generation:
        return history
    update: dict[str, object] = {"generation": generation, "nodes": nodes}
    if start_step is not None:
        update["start_step"] = start_step
    return _with_last(history, attempt.model_copy(update=update))


def end(history: History, reason: str, message: str = "", cause: Cause | None = None) -> History:
    """Close the open attempt, if there is one; `cause`: of a failure that is not counted."""
    attempt = history.open
    if attempt is None:
        return history
    closed = _closed(history, attempt, reason, message)
    return _with_last(history, closed.model_copy(update={"cause": cause}))


def without_repetition(history: History) -> History:
    """Merge consecutive attempts in which nothing ran into one."""
    *earlier, last = history.attempts
    if not earlier or not (_waited(earlier[-1]) and _waited(last)):
        return history
    one = last.model_copy(update={"number": earlier[-1].number, "start": earlier[-1].start})
    return replace(history, attempts=(*earlier[:-1], one))


def _waited(attempt: Attempt) -> bool:
    return attempt.reason in WAITS and not attempt.generation and attempt.cause is None


def roll_generation(history: History, generation: str, nodes: int) -> History:
    """Open a new attempt for a newer generation on `nodes`, while the end of the last one is unexplained."""
    attempt = history.open
    if attempt is None or attempt.generation in ("", generation):
        return history
    if nodes != attempt.nodes:
        message = f"continued on {nodes} nodes instead of {attempt.nodes}"
        return begin(end(history, Reason.RESIZED, message))
    message = f"generation {generation} replaced {attempt.generation}"
    ended = end(history, Reason.RESTARTING, message)
    return begin(replace(ended, restarts=ended.restarts + 1))


def _placed(history: History, failure: RunFailure) -> RunFailure:
    """Return `failure` with the generation that it ended; empty if its pod had joined none.

    While the open attempt has none yet, a pod that existed before that attempt was part
    of the generation before, and its loss is recorded already.
    """
    if failure.generation is not None:
        return failure
    current = history.open
    if current is None or current.generation:
        generation = current.generation if current else ""
    elif _made_since(current, failure.incarnation):
        generation = ""
    else:
        generation = history.broken or history.trained
    return replace(failure, generation=generation)


def _made_since(attempt: Attempt, incarnation: int | None) -> bool:
    """Return whether the pod of `incarnation` was created for `attempt`; None: nothing is left of the pod."""
    if incarnation is None:
        return False
    # Nothing was made before the first attempt. An earlier release noted nothing: one loss more may count.
    return attempt.incarnation is None or incarnation > attempt.incarnation


def _in_generation(history: History, state: CoordinatorState) -> History:
    """Return the history, its open attempt in the generation that the coordinator has sealed."""
    if state.generation is None or state.state is RunState.GATHERING:
        return history
    generation = str(state.generation)
    if generation == history.broken:
        return history
    nodes = len(state.members) or history.nodes
    return with_generation(roll_generation(history, generation, nodes), generation, state.start_step, nodes)


def _named(history: History, failure: RunFailure) -> History:
    """Return the history with the generation that `failure` ended, if Kubernetes reported that end before.

    An operator that begins to lead may see the pod that has ended before the coordinator's first answer,
    and no status names the generation that was sealed meanwhile. The coordinator then reports the same
    node, after ends without a known generation, and nothing has trained since.
    """
    if failure.source is not FailureSource.COORDINATOR or not failure.generation or not failure.node:
        return history
    if _known(history, failure) is not None or history.generation:
        return history
    for attempt in reversed(history.closed):
        if attempt.generation:
            return history
        if attempt.cause is not None and attempt.node == failure.node:
            named = attempt.model_copy(update={"generation": failure.generation})
            return _with(history, named)
    return history


def _known(history: History, failure: RunFailure) -> Attempt | None:
    """Return the attempt whose end `failure` reports; None if that end is not recorded."""
    if not failure.generation:
        return None
    for attempt in reversed(history.closed):
        if attempt.generation == failure.generation:
            return attempt
    return None


def _better(failure: RunFailure, known: Attempt) -> bool:
    """Return whether `failure` explains an attempt's end better than the recorded reason.

    Any other report of the same end explains a secondary failure. A lost agent says no more than its
    silence, which Kubernetes may explain. Apart from that a pod's end hardly says why, and a rank's
    own report has the last word.
    """
    report = failure.report
    if report.cause is known.cause:
        return False
    if is_secondary(known):
        return True
    if is_secondary(report) and known.cause is not None:
        return False
    if known.cause is Cause.NODE_LOST:
        return True
    if report.cause is Cause.NODE_LOST and known.cause is not None:
        return False
    return failure.source is FailureSource.COORDINATOR and known.rank is None


def _reached(history: History, known: Attempt, failure: RunFailure) -> History:
    """Return the history, with a later last step of the attempt `known` if `failure` reports one."""
    step, saved = failure.report.step, failure.checkpoint_step
    if step is None or saved is None or step <= (known.end_step or 0):
        return history
    return _with(history, known.model_copy(update={"end_step": step, "lost_steps": max(0, step - saved)}))


def _interrupted(history: History, failure: RunFailure, decision: FailureDecision) -> History:
    """Close the open attempt with `failure`, and open the next one unless that ends the run."""
    report, failed = failure.report, decision.action is FailureAction.FAIL
    history = begin(history)
    attempt = history.open
    assert attempt is not None
    closed = _closed(history, attempt, report.reason, decision.message)
    ended = closed.model_copy(
        update={
            **_blame(failure),
            "generation": failure.generation or attempt.generation,
            "lost_steps": max(0, (closed.end_step or 0) - (history.checkpoint_step or 0)),
        }
    )
    history = _counted(_with_last(history, ended), report.cause, failure)
    return history if failed else begin(replace(history, restarts=history.restarts + 1))


def _before(history: History, ended: Attempt) -> History:
    """Return the history as it was while the attempt `ended` was open."""
    earlier = (attempt for attempt in history.closed if attempt.number < ended.number)
    reopened = ended.model_copy(update={"end": None})
    return replace(_taken_back(history, ended, None), attempts=(*earlier, reopened))


def _corrected(history: History, ended: Attempt, failure: RunFailure, decision: FailureDecision) -> History:
    """Return the history with `failure` as the end of the attempt `ended`."""
    better = ended.model_copy(
        update={
            **_blame(failure),
            "reason": failure.report.reason,
            "message": decision.message[:MESSAGE_LIMIT],
            "node": failure.node or ended.node,
        }
    )
    history = _with(history, better)
    if ended.cause is None:
        return _counted(history, failure.report.cause, failure)
    return _taken_back(history, ended, failure.report.cause)


def _blame(failure: RunFailure) -> dict[str, object]:
    """Return the fields of an attempt that say whose failure it was; the status holds no negative rank."""
    report = failure.report
    rank = report.rank if report.rank is None or report.rank >= 0 else None
    return {"cause": report.cause, "node": failure.node, "rank": rank, "exit_code": report.exit_code}


def _closed(history: History, attempt: Attempt, reason: str, message: str) -> Attempt:
    return attempt.model_copy(
        update={
            "end": history.time,
            "end_step": max(history.step, attempt.start_step),
            "reason": reason[:REASON_LIMIT],
            "message": message[:MESSAGE_LIMIT],
        }
    )


def _with(history: History, changed: Attempt) -> History:
    attempts = (changed if attempt.number == changed.number else attempt for attempt in history.attempts)
    return replace(history, attempts=tuple(attempts))


def _with_last(history: History, attempt: Attempt) -> History:
    return replace(history, attempts=(*history.attempts[:-1], attempt))


def _with_unlisted(history: History, seen: FailureUpdate) -> History:
    """Return the history with the failures too old to be listed, which count as of the oldest listed one."""
    for cause, number in seen.unlisted.items():
        history = _counted(history, cause, seen.new[0], number)
    return replace(history, restarts=history.restarts + sum(seen.unlisted.values()))


def _counted(history: History, cause: Cause, failure: RunFailure, number: int = 1) -> History:
    """Return the history with `number` more failures by `cause`, at the time of `failure`."""
    newest = history.checkpoint_step or 0
    saved = newest if failure.checkpoint_step is None else min(newest, failure.checkpoint_step)
    recent = failure_window.add_failures(
        history.recent, cause.value, _moment(history, failure), saved, number
    )
    return replace(history, recent=recent, failures=_added(history.failures, {cause.value: number}))


def _taken_back(history: History, ended: Attempt, instead: Cause | None) -> History:
    """Return the history without the failure that closed the attempt `ended`, or with cause `instead`."""
    if ended.cause is None:
        return history
    difference = {ended.cause.value: -1} | ({instead.value: 1} if instead is not None else {})
    seen = parse_time(ended.end or ended.start)
    return replace(
        history,
        failures=_added(history.failures, difference),
        recent=failure_window.remove_failure(history.recent, ended.cause, seen, instead),
    )


def _moment(history: History, failure: RunFailure) -> datetime:
    """Return the time of `failure`, by another machine's clock, bounded by the last look and now."""
    earliest = history.looked or history.created
    return from_epoch(min(max(earliest.timestamp(), failure.report.time), history.now.timestamp()))


def _added(counts: Mapping[str, int], difference: Mapping[str, int]) -> dict[str, int]:
    after = {name: counts.get(name, 0) + difference.get(name, 0) for name in {*counts, *difference}}
    return {name: count for name, count in sorted(after.items()) if count > 0}
