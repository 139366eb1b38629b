"""History of a run: built once from its status and what was observed since, read by policies.

The operator may die between any two calls, so nothing of this is stored
anywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from footplate_contracts.names import Reason
from footplate_contracts.v1alpha1.status import Attempt, RecentFailures, TrainingRunStatus
from footplate_operator.runtime.clock import format_time, parse_time
from footplate_operator.trainingrun.run import Run

# Ends of attempts in which nothing ran: not all workers had nodes.
WAITS: Final = frozenset(
    {Reason.GANG_INCOMPLETE, Reason.WAITING_FOR_TURN, Reason.QUOTA_EXCEEDED, Reason.ADMISSION_REFUSED}
)


@dataclass(frozen=True)
class History:
    """History of a run so far: the lists of its status, and its current state."""

    now: datetime
    created: datetime
    nodes: int  # that the spec asks for
    looked: datetime | None = None  # when the training was seen last: what is new came after that
    step: int = 0  # last finished one
    checkpoint_step: int | None = None  # of the newest durable one
    checkpoint_steps: tuple[int, ...] = ()  # of the last three, ascending
    stepped: bool = False  # any step was finished, ever
    attempts: tuple[Attempt, ...] = ()  # the newest ones, oldest first
    failures: Mapping[str, int] = field(default_factory=dict)  # by cause, since creation
    recent: tuple[RecentFailures, ...] = ()  # those that restart limits count
    restarts: int = 0
    incarnation: int = 0  # newest one of any worker, as the status says
    trained: str = ""  # the generation that trained last, as the status says

    @property
    def time(self) -> str:
        """Current time, as a status writes it."""
        return format_time(self.now)

    @property
    def open(self) -> Attempt | None:
        """Running attempt; None if there is none."""
        last = self.attempts[-1] if self.attempts else None
        return last if last is not None and last.end is None else None

    @property
    def closed(self) -> tuple[Attempt, ...]:
        """Attempts that have ended, oldest first."""
        return tuple(attempt for attempt in self.attempts if attempt.end is not None)

    @property
    def disturbed(self) -> bool:
        """True if anything but turns without enough nodes has come between its first pods and now."""
        return bool(self.failures) or any(attempt.reason not in WAITS for attempt in self.closed)

    @property
    def start_step(self) -> int:
        """Step from which the running attempt began, or the next one would."""
        return self.open.start_step if self.open else (self.checkpoint_step or 0)

    @property
    def generation(self) -> str:
        """Generation of the running attempt; empty while none is sealed."""
        return self.open.generation if self.open else ""

    @property
    def broken(self) -> str:
        """Generation that the newest interruption ended; empty for none."""
        return self.closed[-1].generation if self.closed else ""


def history_of(run: Run, seen: TrainingRunStatus, now: datetime) -> History:
    """Build the history of `run`, `seen` being its status with what was observed since it was written."""
    status = run.status
    step = seen.progress.step if seen.progress else 0
    reached = max([step, *(attempt.end_step or 0 for attempt in status.attempts)])
    return History(
        now=now,
        created=run.created,
        nodes=run.spec.compute.nodes,
        looked=_looked(run),
        step=step,
        checkpoint_step=seen.checkpoint.latest_step if seen.checkpoint else None,
        checkpoint_steps=tuple(seen.checkpoint.recent_steps) if seen.checkpoint else (),
        stepped=reached > 0,
        attempts=tuple(status.attempts),
        failures=status.failures,
        recent=tuple(status.internal.recent_failures or ()),
        restarts=status.restarts,
        incarnation=status.internal.incarnation,
        trained=status.world.generation if status.world else "",
    )


def _looked(run: Run) -> datetime:
    """Return the last time, according to the status written last, at which training was observed."""
    status = run.status
    times = [attempt.end or attempt.start for attempt in status.attempts[-1:]]
    if status.progress is not None and status.progress.last_updated_time:
        times.append(status.progress.last_updated_time)
    return max([run.created, *map(parse_time, times)])
