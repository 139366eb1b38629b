"""Which telemetry is stored and which rows are shown."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from footplate_api.metrics.history import newest, stride
from footplate_contracts.metrics import StepMetrics
from footplate_contracts.reports import GenerationId, GenerationRow
from tests.support.properties import given


def row(step: int, epoch: int, number: int) -> GenerationRow:
    metrics = StepMetrics(
        step=step,
        time=0.0,
        loss=float(epoch * 100 + number),
        gradient_norm=1.0,
        learning_rate=0.1,
        tokens=0,
        tokens_per_second=0.0,
        sample_digest="",
    )
    return GenerationRow(generation=GenerationId(epoch=epoch, number=number), metrics=metrics)


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([row(2, 1, 1), row(1, 1, 1)], [row(1, 1, 1), row(2, 1, 1)], id="in-order-of-steps"),
        pytest.param([row(1, 1, 1), row(1, 1, 2)], [row(1, 1, 2)], id="newer-number"),
        pytest.param([row(1, 1, 2), row(1, 1, 1)], [row(1, 1, 2)], id="whatever-the-order"),
        pytest.param([row(1, 1, 9), row(1, 2, 1)], [row(1, 2, 1)], id="newer-epoch"),
        pytest.param([row(1, 1, 1), row(1, 1, 1)], [row(1, 1, 1)], id="twice-the-same"),
    ],
)
def test_one_row_a_step_stays(rows: list[GenerationRow], kept: list[GenerationRow]) -> None:
    assert newest(rows) == kept


@pytest.mark.parametrize(
    ("first", "last", "limit", "every"),
    [
        pytest.param(1, 1, 10, 1, id="one-step"),
        pytest.param(1, 10, 10, 1, id="just-fits"),
        pytest.param(1, 11, 10, 2, id="one-too-many"),
        pytest.param(0, 99_999, 5000, 21, id="a-long-run"),
    ],
)
def test_stride(first: int, last: int, limit: int, every: int) -> None:
    assert stride(first, last, limit) == every


@given(st.integers(0, 10_000), st.integers(0, 3_000), st.integers(10, 200))
def test_what_is_shown_fits_the_limit(first: int, length: int, limit: int) -> None:
    last = first + length
    every = stride(first, last, limit)
    shown = [step for step in range(first, last + 1) if step % every == 0 or step == last]
    assert len(shown) <= limit
