"""Callbacks that a stage runs around each training step, as a list of mostly independent parts.

Each event below calls them in the order of the list. A callback may take part in a collective if it does so
on every rank after the same step. A fact that one rank alone knows, such as a command that only its agent has
received, is raised as a flag, which is part of the step's own reduction.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, SupportsFloat

from footplate_contracts.metrics import COLUMNS, values_error
from footplate_contracts.samples import LoggedSample
from footplate_trainer.data.loader import StepBatch
from footplate_trainer.loop.stepper import StepFlags, StepResult
from footplate_trainer.metrics.stopwatch import StepPart

_MEASURED: Final = frozenset({*(column.name for column in COLUMNS if column.optional)})
# They come before the step; how long they take depends on how much is sampled.
_APART: Final = (StepPart.ROLLOUT, StepPart.SCORING)
_IN_EVERY_ROW: Final = frozenset({*(column.name for column in COLUMNS if not column.optional)})


class StepColumns(UserDict[str, SupportsFloat]):
    """Columns that callbacks add to a step's row: optional fields of StepMetrics, and other numbers by name.

    A name that cannot be stored raises ValueError in the line that sets it, so that a stage's author sees the
    error at the first step, rather than rows that the API drops at the end.
    """

    def __setitem__(self, name: str, value: SupportsFloat) -> None:
        """Set a column; a tensor of one element counts as a number, as elsewhere in torch."""
        number = float(value)
        if name in _IN_EVERY_ROW:
            raise ValueError(f"step.columns: {name!r} is a column of every row; use another name")
        if name not in _MEASURED:
            wrong = values_error({**self.values_by_name(), name: number})
            if wrong is not None:
                raise ValueError(f"step.columns: {wrong}")
        super().__setitem__(name, number)

    def fields(self) -> dict[str, float]:
        """Return the columns that are fields of StepMetrics."""
        return {name: float(value) for name, value in self.data.items() if name in _MEASURED}

    def values_by_name(self) -> dict[str, float]:
        """Return all other columns."""
        return {name: float(value) for name, value in self.data.items() if name not in _MEASURED}


@dataclass(frozen=True)
class TrainedStep:
    """A step that has updated the weights, as this rank saw it."""

    result: StepResult
    batch: StepBatch
    seconds: float  # since the step before was taken
    parts: Mapping[StepPart, float]  # of these seconds, and of those that a device had not finished then
    columns: StepColumns = field(default_factory=StepColumns)  # what callbacks measured
    # Of the answers that it learnt from, what rank 0 shows with its row (`metrics.shown` chooses); a callback
    # in front of MetricRows adds them.
    samples: list[LoggedSample] = field(default_factory=list)

    @property
    def training_seconds(self) -> float:
        """The step's seconds without rollout and scoring, which have limits and speeds of their own."""
        return max(0.0, self.seconds - sum(self.parts.get(part, 0.0) for part in _APART))

    @property
    def number(self) -> int:
        """The step's number, from 1."""
        return self.result.step


class Callback:
    """Base class of callbacks around a step; its methods do nothing."""

    def before_data(self, step: int) -> None:
        """Act at the start of step number `step`, from 1, before this rank waits for its batch."""

    def before_compute(self, step: int) -> StepFlags:
        """Return the flags that this rank raises for all ranks, now that the batch is here."""
        return StepFlags()

    def after_step(self, step: TrainedStep) -> None:
        """Process a step whose weights are updated, and whose flags all ranks have."""

    def after_last_step(self) -> None:
        """Act after the run's last step and its checkpoint; new limits may still prolong the run."""

    def close(self) -> None:
        """End what is still in progress, after training has ended without an error."""


class Callbacks(Callback):
    """A sequence of callbacks, called one after the other."""

    def __init__(self, *callbacks: Callback | None) -> None:
        """Skip None, which stands for a callback that this run does not need."""
        self._callbacks = [callback for callback in callbacks if callback is not None]

    def before_data(self, step: int) -> None:
        for callback in self._callbacks:
            callback.before_data(step)

    def before_compute(self, step: int) -> StepFlags:
        flags = StepFlags()
        for callback in self._callbacks:
            flags |= callback.before_compute(step)
        return flags

    def after_step(self, step: TrainedStep) -> None:
        for callback in self._callbacks:
            callback.after_step(step)

    def after_last_step(self) -> None:
        for callback in self._callbacks:
            callback.after_last_step()

    def close(self) -> None:
        for callback in self._callbacks:
            callback.close()
