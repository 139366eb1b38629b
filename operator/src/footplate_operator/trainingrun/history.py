"""What has happened to a run: built once from its status and what was seen since, read by policies.

The operator may die between any two calls, so nothing of this is kept
anywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from footplate_contracts.v1alpha1.status import Attempt, TrainingRunStatus
from footplate_operator.runtime.clock import format_time
from footplate_operator.trainingrun.run import Run


@dataclass(frozen=True)
class History:
    """A run so far: what its status lists, and where it stands now."""

    now: datetime
    created: datetime
    nodes: int  # that the spec asks for
    checkpoint_every: int  # steps
    step: int = 0  # last finished one
    checkpoint_step: int | None = None  # of the newest durable one
    stepped: bool = False  # any step was finished, ever
    attempts: tuple[Attempt, ...] = ()  # the newest ones, oldest first
    failures: Mapping[str, int] = field(default_factory=dict)  # by cause, since creation
    restarts: int = 0
    trained: str = ""  # the generation that trained last, as the status says

    @property
    def time(self) -> str:
        """Now, as a status says it."""
        return format_time(self.now)

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
    def start_step(self) -> int:
        """The step from which the running attempt began, or the next one would."""
        return self.open.start_step if self.open else (self.checkpoint_step or 0)

    @property
    def generation(self) -> str:
        """The generation of the attempt that is running; empty while none is sealed."""
        return self.open.generation if self.open else ""

    @property
    def broken(self) -> str:
        """The generation that the newest interruption ended; empty for none."""
        return self.closed[-1].generation if self.closed else ""


def history_of(run: Run, seen: TrainingRunStatus, now: datetime) -> History:
    """The history of `run`, `seen` being its status with what was seen since it was written."""
    status = run.status
    step = seen.progress.step if seen.progress else 0
    reached = max([step, *(attempt.end_step or 0 for attempt in status.attempts)])
    return History(
        now=now,
        created=run.created,
        nodes=run.spec.compute.nodes,
        checkpoint_every=run.spec.checkpoint.every_steps,
        step=step,
        checkpoint_step=seen.checkpoint.latest_step if seen.checkpoint else None,
        stepped=reached > 0,
        attempts=tuple(status.attempts),
        failures=status.failures,
        restarts=status.restarts,
        trained=status.world.generation if status.world else "",
    )
