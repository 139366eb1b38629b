"""Accounts of a run's wall time.

The members of `status.wallSeconds` add up to the wall time by construction: each
account books the time that has passed since the last one, and the sum so far shows when
that was. So there is no clock to store and no interval to lose, whichever replica writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from footplate_contracts.names import Phase
from footplate_contracts.reports import CheckpointRecord
from footplate_contracts.v1alpha1.status import CheckpointStatus, TimeStatus
from footplate_operator.runtime.clock import seconds_between

_ACCOUNTS: dict[Phase | None, str] = {
    None: "queued",
    Phase.QUEUED: "queued",
    Phase.ADMITTED: "queued",
    Phase.STARTING: "starting",
    Phase.PREFLIGHT: "starting",
    Phase.RUNNING: "productive",
    Phase.CHECKPOINTING: "checkpointing",
    Phase.SUSPENDING: "checkpointing",
    Phase.RESTARTING: "restarting",
    Phase.SUSPENDED: "suspended",
}


@dataclass(frozen=True)
class StepWindow:
    """Steps trained since the last account."""

    before: int  # step at the last account
    after: int  # step now
    reached: int  # highest step that any earlier attempt finished
    blocked_seconds: float = 0.0  # spent in checkpoints that block, as the newest one says


def total(time: TimeStatus) -> float:
    """Return the seconds accounted for."""
    return float(sum(time.model_dump().values()))


def book(
    time: TimeStatus, created: datetime, phase: Phase | None, steps: StepWindow, now: datetime
) -> TimeStatus:
    """Return `time` up to `now`, as `phase` lasted since the last account.

    Of the time in Running, steps that an earlier attempt had finished already
    are recomputed, not productive, and a blocking checkpoint is neither. A terminal phase adds nothing.
    """
    passed = seconds_between(created + timedelta(seconds=total(time)), now)
    if phase is not None and phase.is_terminal:
        return time
    if phase is not Phase.RUNNING:
        return _add(time, {_ACCOUNTS[phase]: passed})
    blocked = min(steps.blocked_seconds, passed)
    recomputed = (passed - blocked) * _recomputed_share(steps)
    return _add(
        time,
        {"checkpointing": blocked, "recomputed": recomputed, "productive": passed - blocked - recomputed},
    )


def blocked(known: CheckpointStatus | None, newest: CheckpointRecord | None) -> float:
    """Return the seconds that a checkpoint newer than the `known` one has blocked the training."""
    if newest is None or (known is not None and known.uri == newest.uri):
        return 0.0
    return newest.seconds_blocked


def goodput(time: TimeStatus) -> float | None:
    """Return the productive share of the wall time since admission; None before that."""
    since_admission = total(time) - time.queued
    return round(min(1.0, time.productive / since_admission), 4) if since_admission > 0 else None


def _recomputed_share(steps: StepWindow) -> float:
    trained = steps.after - steps.before
    if trained <= 0:
        return 1.0 if steps.after < steps.reached else 0.0
    repeated = min(steps.after, steps.reached) - steps.before
    return min(1.0, max(0.0, repeated / trained))


def _add(time: TimeStatus, seconds: dict[str, float]) -> TimeStatus:
    return time.model_copy(
        update={name: round(getattr(time, name) + value, 3) for name, value in seconds.items()}
    )
