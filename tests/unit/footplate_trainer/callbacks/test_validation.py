"""What an evaluation of held-out batches adds to the row of a step."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace

from footplate_trainer.callbacks.validation import ValidationCallback
from footplate_trainer.data.loader import StepBatch
from footplate_trainer.loop.stepper import Evaluation
from footplate_trainer.metrics.stopwatch import Stopwatch
from footplate_trainer.parallel.objective import Objective
from tests.support.training import rank_of, trained


@dataclass
class FakeStepper:
    """Finds the same in any batches."""

    found: Evaluation
    stopwatch: Stopwatch = field(default_factory=lambda: Stopwatch(time.perf_counter))
    seen: list[object] = field(default_factory=list)

    def evaluate(self, batches: Iterable[StepBatch], objective: Objective) -> Evaluation:
        self.seen.append(list(batches))
        return self.found


def test_a_row_has_the_loss_and_what_the_objective_summed() -> None:
    stepper = FakeStepper(Evaluation(2.5, {"preference/accuracy": 0.75}))
    validation = ValidationCallback(
        stepper,
        objective=SimpleNamespace(),
        loader=SimpleNamespace(build=lambda number: number),
        limits=SimpleNamespace(steps=9),
        reporter=SimpleNamespace(report_phase=lambda phase: None),
        world=rank_of(1),
        every=4,
        batches=2,
    )
    without, step, last = trained(3), trained(4), trained(9)

    for taken in (without, step, last):
        validation.after_step(taken)

    assert not without.columns
    assert step.columns == last.columns == {"validation_loss": 2.5, "validation/preference/accuracy": 0.75}
    assert stepper.seen == [[0, 1]] * 2
