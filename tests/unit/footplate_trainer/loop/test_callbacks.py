"""Several callbacks as one: their order, and what any of them wants all ranks to know."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import pytest
import torch

from footplate_contracts.metrics import VALUES
from footplate_planning import traffic
from footplate_trainer.loop.callbacks import Callback, Callbacks, TrainedStep
from footplate_trainer.loop.stepper import StepFlags
from tests.support.training import trained


@dataclass
class Scribe(Callback):
    """Writes down what it is told of, under its name."""

    name: str
    written: list[str]
    flags: StepFlags = field(default_factory=StepFlags)

    def before_data(self, step: int) -> None:
        self.written.append(f"{self.name}: data of {step}")

    def before_compute(self, step: int) -> StepFlags:
        self.written.append(f"{self.name}: compute {step}")
        return self.flags

    def after_step(self, step: TrainedStep) -> None:
        self.written.append(f"{self.name}: after {step.number}")

    def after_last_step(self) -> None:
        self.written.append(f"{self.name}: last")

    def close(self) -> None:
        self.written.append(f"{self.name}: closed")


def test_the_order_of_the_list_is_the_order_of_effects() -> None:
    written: list[str] = []
    callbacks = Callbacks(Scribe("a", written), None, Scribe("b", written))
    callbacks.before_data(3)
    callbacks.before_compute(3)
    callbacks.after_step(trained(3))
    callbacks.after_last_step()
    callbacks.close()
    assert written == [
        f"{name}: {what}"
        for what in ("data of 3", "compute 3", "after 3", "last", "closed")
        for name in ("a", "b")
    ]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        pytest.param(StepFlags(), StepFlags(), StepFlags(), id="none"),
        pytest.param(StepFlags(suspend=True), StepFlags(), StepFlags(suspend=True), id="first"),
        pytest.param(
            StepFlags(storage_failed=True),
            StepFlags(suspend=True, storage_failed=True),
            StepFlags(suspend=True, storage_failed=True),
            id="both",
        ),
    ],
)
def test_a_flag_of_any_is_raised(first: StepFlags, second: StepFlags, expected: StepFlags) -> None:
    callbacks = Callbacks(Scribe("a", [], first), Scribe("b", [], second))
    assert callbacks.before_compute(1) == expected


def test_all_flags_are_counted_in_a_steps_traffic() -> None:
    assert len(fields(StepFlags)) == traffic.FLAGS


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        pytest.param("my reward", "must be a name of at most 63 letters", id="not-a-name"),
        pytest.param("loss", "is a column of every row", id="a-column-of-every-row"),
        pytest.param("gradientNorm", "is a column of every row", id="a-column-as-json-calls-it"),
        pytest.param("generation", "is a column of every row", id="what-the-api-adds"),
    ],
)
def test_a_name_that_cannot_be_stored_fails_in_the_line_that_gives_it(name: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=f"step.columns: '{name}' {wrong}"):
        trained(1).columns[name] = 1.0


def test_so_does_one_number_too_many() -> None:
    columns = trained(1).columns
    columns["validation_loss"] = 1.0
    columns.update({f"reward/{number}": number for number in range(VALUES)})
    columns["reward/0"] = 2.0
    with pytest.raises(ValueError, match=f"step.columns: must be at most {VALUES} numbers, not {VALUES + 1}"):
        columns["one-more"] = 1.0


def test_what_is_no_number_fails_there_too() -> None:
    with pytest.raises(ValueError, match=r"only one element tensors|scalar"):
        trained(1).columns["reward"] = torch.zeros(2)
