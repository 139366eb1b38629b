"""What a stage does around each training step, as a list of parts that know little of each other.

The order of the list is the order of effects in each of the moments below. A
callback may take part in a collective if it does so on every rank after the same
step. What one rank alone knows, such as a command that only its agent has heard,
it raises as a flag, which rides along in the step's own reduction.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, SupportsFloat

from footplate_contracts.metrics import COLUMNS, unfit
from footplate_contracts.samples import ShownSample
from footplate_trainer.data.loader import StepBatch
from footplate_trainer.loop.stepper import Flags, StepResult
from footplate_trainer.metrics.stopwatch import StepPart

_MEASURED: Final = frozenset({*(column.name for column in COLUMNS if column.optional)})
# They come before the step; how long they take depends on how much is sampled.
_APART: Final = (StepPart.ROLLOUT, StepPart.SCORING)
_IN_EVERY_ROW: Final = frozenset({*(column.name for column in COLUMNS if not column.optional)})


class StepColumns(UserDict[str, SupportsFloat]):
    """What callbacks add to the row of a step: optional fields of StepMetrics, and further numbers by name.

    A name that cannot be stored raises ValueError in the line that gives it, so that a stage's author
    reads of it at the first step, and not that the API gave rows up at the end.
    """

    def __setitem__(self, name: str, value: SupportsFloat) -> None:
        """A tensor of one element counts as a number, as elsewhere in torch."""
        number = float(value)
        if name in _IN_EVERY_ROW:
            raise ValueError(f"step.columns: {name!r} is a column of every row; another name is free")
        if name not in _MEASURED:
            wrong = unfit({**self.values_by_name(), name: number})
            if wrong is not None:
                raise ValueError(f"step.columns: {wrong}")
        super().__setitem__(name, number)

    def fields(self) -> dict[str, float]:
        """Those that are fields of StepMetrics."""
        return {name: float(value) for name, value in self.data.items() if name in _MEASURED}

    def values_by_name(self) -> dict[str, float]:
        """All others."""
        return {name: float(value) for name, value in self.data.items() if name not in _MEASURED}


@dataclass(frozen=True)
class TrainedStep:
    """A step that the weights have taken, as this rank saw it."""

    result: StepResult
    batch: StepBatch
    seconds: float  # since the step before was taken
    parts: Mapping[StepPart, float]  # of these seconds, and of those that a device had not finished then
    columns: StepColumns = field(default_factory=StepColumns)  # what callbacks measured
    # Of the answers that it learnt from, what rank 0 shows with its row (`metrics.shown` chooses); a callback
    # in front of MetricRows adds them.
    samples: list[ShownSample] = field(default_factory=list)

    @property
    def training_seconds(self) -> float:
        """Of its seconds those without rollout and scoring, which have bounds and speeds of their own."""
        return max(0.0, self.seconds - sum(self.parts.get(part, 0.0) for part in _APART))

    @property
    def number(self) -> int:
        """From 1."""
        return self.result.step


class Callback:
    """One of the things that a stage does around a step; by itself nothing."""

    def before_data(self, step: int) -> None:
        """Step number `step`, from 1, begins: next this rank waits for its batch."""

    def before_compute(self, step: int) -> Flags:
        """The batch is here; the answer is what this rank wants all ranks to know."""
        return Flags()

    def after_step(self, step: TrainedStep) -> None:
        """The weights are updated, and all ranks know the flags of all."""

    def after_last_step(self) -> None:
        """What belongs to the run's last step is done, its checkpoint too; the run may yet be prolonged."""

    def close(self) -> None:
        """Training has ended as it should; end what is still under way."""


class Callbacks(Callback):
    """Several, called one after the other."""

    def __init__(self, *callbacks: Callback | None) -> None:
        """None stands for what this run does not ask for."""
        self._callbacks = [callback for callback in callbacks if callback is not None]

    def before_data(self, step: int) -> None:
        """See Callback."""
        for callback in self._callbacks:
            callback.before_data(step)

    def before_compute(self, step: int) -> Flags:
        """See Callback."""
        flags = Flags()
        for callback in self._callbacks:
            flags |= callback.before_compute(step)
        return flags

    def after_step(self, step: TrainedStep) -> None:
        """See Callback."""
        for callback in self._callbacks:
            callback.after_step(step)

    def after_last_step(self) -> None:
        """See Callback."""
        for callback in self._callbacks:
            callback.after_last_step()

    def close(self) -> None:
        """See Callback."""
        for callback in self._callbacks:
            callback.close()
