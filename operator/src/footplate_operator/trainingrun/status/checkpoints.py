"""A run's durable checkpoints in its status: the newest, the others, and marks. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from footplate_contracts.reports import CheckpointRecord, RetainedCheckpoint
from footplate_contracts.v1alpha1.compute import Promotion
from footplate_contracts.v1alpha1.references import DependentRun
from footplate_contracts.v1alpha1.status import (
    DIRECTORY_LIMIT,
    CheckpointStatus,
    PromotedCheckpoint,
    RetainedCheckpointStatus,
)
from footplate_operator.runtime.clock import format_time, from_epoch
from footplate_operator.trainingrun import failure_window
from footplate_operator.trainingrun.run import Run


def checkpoints(
    run: Run, record: CheckpointRecord | None = None, steps: Sequence[int] = ()
) -> CheckpointStatus | None:
    """Build the checkpoint status of `run`, from the newest `record` and last `steps`, if reported."""
    newest = run.status.checkpoint if record is None else _newest(run, record, steps)
    return newest and _marked(newest, run.spec.checkpoint.promoted or ())


def drop_unreferenced(known: CheckpointStatus, followers: Iterable[DependentRun]) -> CheckpointStatus:
    """Return `known`, listing only the newest, the best, and checkpoints with a mark or a follower."""
    named = {known.latest_step, known.best_step, *(mark.step for mark in known.promoted or ())}
    named |= {step for follower in followers for step in follower.steps}
    kept = [found for found in known.kept or () if found.step in named]
    return known.model_copy(update={"kept": kept if known.kept is not None else None})


def _newest(run: Run, record: CheckpointRecord, steps: Sequence[int]) -> CheckpointStatus:
    known = run.status.checkpoint
    if known is None or known.uri != record.uri:
        kept = known.kept if known else None  # storage may not have said which stand
        if record.standing is not None:
            kept = [_kept(found) for found in record.standing]
        newest = CheckpointStatus(
            latest_step=record.step,
            uri=record.uri,
            last_committed_time=format_time(from_epoch(record.time)),
            durable=True,
            kept=kept,
            best_step=_best(kept or ()),
        )
    else:
        newest = known
    told = [*(known.recent_steps if known is not None else ()), *steps, record.step]
    # One behind the newest is of a history that was rolled back.
    recent = sorted({step for step in told if 0 < step <= record.step})[-failure_window.CHECKPOINTS :]
    return newest if recent == newest.recent_steps else newest.model_copy(update={"recent_steps": recent})


def _kept(found: RetainedCheckpoint) -> RetainedCheckpointStatus:
    loss = found.validation_loss
    return RetainedCheckpointStatus(
        step=found.step,
        generation=str(found.generation),
        digest=found.digest,
        validation_loss=loss if loss is not None and math.isfinite(loss) else None,
    )


def _best(kept: Iterable[RetainedCheckpointStatus]) -> int | None:
    """Return the step of the lowest validation loss, in a tie the newest, as retention does."""
    losses = [(found.validation_loss, -found.step) for found in kept if found.validation_loss is not None]
    return -min(losses)[1] if losses else None


def _marked(newest: CheckpointStatus, promotions: Iterable[Promotion]) -> CheckpointStatus:
    """Return `newest` with a record of each checkpoint that bears a mark."""
    kept = {found.step: found for found in newest.kept or ()}
    marks = [_mark(newest, promotion, kept.get(promotion.step)) for promotion in promotions] or None
    return newest if marks == newest.promoted else newest.model_copy(update={"promoted": marks})


def _mark(
    newest: CheckpointStatus, promotion: Promotion, found: RetainedCheckpointStatus | None
) -> PromotedCheckpoint:
    mark = PromotedCheckpoint(name=promotion.name, step=promotion.step)
    if found is None:
        own = newest.uri.rpartition("/")[2] if promotion.step == newest.latest_step else ""
        return mark.model_copy(update={"directory": own}) if 0 < len(own) <= DIRECTORY_LIMIT else mark
    return mark.model_copy(update={"directory": found.directory, "digest": found.digest})
