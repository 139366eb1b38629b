"""The attempts, failures and restarts of a run, as its status lists them.

The operator may die between any two calls, so the list is a function of the
status written last and of what is seen now: nothing counts twice, and nothing
is kept anywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from footplate_contracts.names import Cause, Reason
from footplate_contracts.v1alpha1.status import ATTEMPT_LIMIT, Attempt, TrainingRunStatus
from footplate_operator.runtime.clock import format_time, parse_time
from footplate_operator.trainingrun.policies.failure import (
    Action,
    Evidence,
    History,
    Past,
    Verdict,
    next_action,
)
from footplate_operator.trainingrun.run import Run
from footplate_operator.trainingrun.status.evidence import TOLD_BY_KUBERNETES, Interruption

_MESSAGE_LIMIT = 1024


@dataclass(frozen=True)
class AttemptContext:
    """Where the run stands when an attempt begins or ends."""

    now: datetime
    created: datetime
    budgets: Mapping[str, int]
    step: int  # last finished step
    checkpoint_step: int | None
    checkpoint_every: int
    nodes: int
    stepped: bool  # any step was finished, ever


@dataclass(frozen=True)
class AttemptLog:
    """The part of the status that only grows."""

    attempts: tuple[Attempt, ...] = ()
    failures: tuple[tuple[str, int], ...] = ()
    restarts: int = 0

    @property
    def open(self) -> Attempt | None:
        """The attempt that is running."""
        last = self.attempts[-1] if self.attempts else None
        return last if last is not None and last.end is None else None

    @property
    def closed(self) -> tuple[Attempt, ...]:
        """Attempts that have ended, oldest first."""
        return tuple(attempt for attempt in self.attempts if attempt.end is not None)

    @property
    def generation(self) -> str:
        """The generation of the attempt that is running; empty while none is sealed."""
        return self.open.generation if self.open else ""

    @property
    def broken(self) -> str:
        """The generation that the newest interruption ended; empty for none."""
        return self.closed[-1].generation if self.closed else ""

    def into(self, status: TrainingRunStatus) -> TrainingRunStatus:
        """`status` with these attempts, the inverse of `from_status`."""
        return status.model_copy(
            update={
                "attempts": list(self.attempts),
                "failures": dict(self.failures),
                "restarts": self.restarts,
            }
        )


def from_status(status: TrainingRunStatus) -> AttemptLog:
    """The log so far."""
    return AttemptLog(tuple(status.attempts), tuple(sorted(status.failures.items())), status.restarts)


def context_of(run: Run, seen: TrainingRunStatus, now: datetime) -> AttemptContext:
    """Where `run` stands, `seen` being its status with what was seen since it was written."""
    step = seen.progress.step if seen.progress else 0
    reached = max([step, *(attempt.end_step or 0 for attempt in run.status.attempts)])
    return AttemptContext(
        now=now,
        created=run.created,
        budgets=run.spec.resilience.budgets,
        step=step,
        checkpoint_step=seen.checkpoint.latest_step if seen.checkpoint else None,
        checkpoint_every=run.spec.checkpoint.every_steps,
        nodes=run.spec.compute.nodes,
        stepped=reached > 0,
    )


def begin(log: AttemptLog, context: AttemptContext) -> AttemptLog:
    """Open an attempt, unless one is open."""
    if log.open is not None:
        return log
    number = log.attempts[-1].number + 1 if log.attempts else 1
    attempt = Attempt(
        number=number,
        start=format_time(context.now),
        nodes=context.nodes,
        start_step=context.checkpoint_step or 0,
    )
    return replace(log, attempts=(*log.attempts, attempt)[-ATTEMPT_LIMIT:])


def sealed(log: AttemptLog, generation: str, start_step: int | None, nodes: int) -> AttemptLog:
    """Note which generation the open attempt trains in, on how many nodes, and where it began."""
    attempt = log.open
    if attempt is None or not generation:
        return log
    update: dict[str, object] = {"generation": generation, "nodes": nodes}
    if start_step is not None:
        update["start_step"] = start_step
    return _with_last(log, attempt.model_copy(update=update))


def end(log: AttemptLog, context: AttemptContext, reason: str, message: str = "") -> AttemptLog:
    """Close the open attempt for a reason that is no failure."""
    attempt = log.open
    if attempt is None:
        return log
    return _with_last(log, _closed(attempt, context, reason=reason, message=message))


def fail(log: AttemptLog, context: AttemptContext, failure: Action) -> AttemptLog:
    """Close the open attempt, if there is one, with the failure that ends the run."""
    if log.open is None:
        return log
    ended = end(log, context, failure.reason, failure.message)
    return _with_last(ended, ended.attempts[-1].model_copy(update={"cause": failure.cause}))


def interrupt(
    log: AttemptLog, context: AttemptContext, interruption: Interruption
) -> tuple[AttemptLog, Action | None]:
    """The log after a failure, and what the policy makes of it; None where it was known already."""
    if _known(log, interruption) is not None:
        return explain(log, context, interruption)
    action = next_action(context.budgets, _history(log, context), _evidence(interruption))
    log = begin(log, context)
    attempt = log.open
    assert attempt is not None
    generation = interruption.generation or attempt.generation
    ended = _closed(
        attempt.model_copy(update={"generation": generation}),
        context,
        reason=interruption.reason,
        message=action.message if action.verdict is Verdict.FAIL else interruption.message,
        interruption=interruption,
    )
    log = _counted(_with_last(log, ended), interruption.cause, +1)
    if action.verdict is Verdict.FAIL:
        return log, action
    return begin(replace(log, restarts=log.restarts + 1), context), action


def explain(
    log: AttemptLog, context: AttemptContext, interruption: Interruption
) -> tuple[AttemptLog, Action | None]:
    """The log with a better reason for an end that it knows, and what follows from that; else as it was."""
    known = _known(log, interruption)
    if known is None or not _better(interruption, known):
        return log, None
    return _corrected(log, known, context, interruption)


def renewed(log: AttemptLog, context: AttemptContext, generation: str, nodes: int) -> AttemptLog:
    """A newer generation trains on so many `nodes`, and nobody said yet why the last one ended."""
    attempt = log.open
    if attempt is None or attempt.generation in ("", generation):
        return log
    if nodes != attempt.nodes:
        message = f"{nodes} nodes went on instead of {attempt.nodes}"
        return begin(end(log, context, Reason.RESIZED, message), context)
    message = f"generation {generation} took over from {attempt.generation}"
    ended = end(log, context, Reason.RESTARTING, message)
    return begin(replace(ended, restarts=ended.restarts + 1), context)


def _known(log: AttemptLog, interruption: Interruption) -> Attempt | None:
    """The attempt whose end `interruption` tells of, if it is written down already."""
    if not interruption.generation:
        return None
    for attempt in reversed(log.closed):
        if attempt.generation == interruption.generation:
            return attempt
    return None


def _better(interruption: Interruption, known: Attempt) -> bool:
    """Whether `interruption` knows more of why an attempt ended than what is written down.

    A lost peer is an echo: whatever else is told of the same end explains it. A lost agent says no
    more than its silence, which Kubernetes may explain. Apart from that a pod's end is hearsay, and
    a rank that spoke for itself has the last word.
    """
    if interruption.cause is known.cause:
        return False
    if known.cause is Cause.COMMUNICATION and known.reason == Reason.PEER_LOST:
        return True
    echo = interruption.cause is Cause.COMMUNICATION and interruption.reason == Reason.PEER_LOST
    if echo and known.cause is not None:
        return False
    if known.cause is Cause.NODE_LOST and interruption.cause in TOLD_BY_KUBERNETES:
        return True
    if interruption.cause is Cause.NODE_LOST and known.cause in TOLD_BY_KUBERNETES:
        return False
    return not interruption.hearsay and known.rank is None


def _corrected(
    log: AttemptLog, ended: Attempt, context: AttemptContext, interruption: Interruption
) -> tuple[AttemptLog, Action | None]:
    """`ended` as a better witness tells it."""
    past = replace(log, attempts=tuple(attempt for attempt in log.closed if attempt.number < ended.number))
    if ended.cause is not None:
        past, log = _counted(past, ended.cause, -1), _counted(log, ended.cause, -1)
    history = _history(past, context, start_step=ended.start_step)
    action = next_action(context.budgets, history, _evidence(interruption))
    better = ended.model_copy(
        update={
            "cause": interruption.cause,
            "reason": interruption.reason[:64],
            "message": action.message[:_MESSAGE_LIMIT],
            "rank": interruption.rank,
            "exit_code": interruption.exit_code,
            "node": interruption.node or ended.node,
        }
    )
    attempts = tuple(better if known.number == ended.number else known for known in log.attempts)
    return _counted(replace(log, attempts=attempts), interruption.cause, +1), action


def _history(log: AttemptLog, context: AttemptContext, start_step: int | None = None) -> History:
    current = log.open
    begun_at = current.start_step if current else (context.checkpoint_step or 0)
    return History(
        attempts=tuple(
            Past(
                cause=attempt.cause,
                reason=attempt.reason,
                message=attempt.message,
                end=parse_time(attempt.end or attempt.start),
                start_step=attempt.start_step,
                end_step=attempt.end_step or attempt.start_step,
            )
            for attempt in log.closed
        ),
        counts=dict(log.failures),
        created=context.created,
        now=context.now,
        current_start_step=begun_at if start_step is None else start_step,
        checkpoint_step=context.checkpoint_step,
        checkpoint_every=context.checkpoint_every,
        stepped=context.stepped,
    )


def _evidence(interruption: Interruption) -> Evidence:
    return Evidence(interruption.cause, interruption.reason, interruption.message)


def _closed(
    attempt: Attempt,
    context: AttemptContext,
    reason: str,
    message: str,
    interruption: Interruption | None = None,
) -> Attempt:
    reached = max(context.step, attempt.start_step)
    update: dict[str, object] = {
        "end": format_time(context.now),
        "end_step": reached,
        "reason": reason[:64],
        "message": message[:_MESSAGE_LIMIT],
    }
    if interruption is not None:
        update |= {
            "cause": interruption.cause,
            "node": interruption.node,
            "rank": interruption.rank,
            "exit_code": interruption.exit_code,
            "lost_steps": max(0, reached - (context.checkpoint_step or 0)),
        }
    return attempt.model_copy(update=update)


def _with_last(log: AttemptLog, attempt: Attempt) -> AttemptLog:
    return replace(log, attempts=(*log.attempts[:-1], attempt))


def _counted(log: AttemptLog, cause: Cause, difference: int) -> AttemptLog:
    counts = dict(log.failures)
    counts[cause.value] = max(0, counts.get(cause.value, 0) + difference)
    kept: Sequence[tuple[str, int]] = sorted((name, count) for name, count in counts.items() if count)
    return replace(log, failures=tuple(kept))
