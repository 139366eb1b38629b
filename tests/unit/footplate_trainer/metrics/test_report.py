"""metrics.jsonl and what a person reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from footplate_contracts.metrics import StepMetrics
from footplate_trainer.errors import UserMistake
from footplate_trainer.metrics.metric_sinks import (
    MetricsFile,
    SamplesFile,
    progress_line,
    rows_up_to,
    samples_path,
)
from tests.support.samples import shown


def row(step: int) -> StepMetrics:
    return StepMetrics(
        step=step,
        time=1.0,
        loss=2.5,
        gradient_norm=0.5,
        learning_rate=6e-4,
        tokens=100 * step,
        tokens_per_second=1234.5,
        sample_digest="00ff",
    )


LINES = '{"step": 1}\n{"step": 2}\n{"step": 3}\n'


@pytest.mark.parametrize(
    ("text", "step", "kept"),
    [
        pytest.param(LINES, 2, '{"step": 1}\n{"step": 2}\n', id="cut-back"),
        pytest.param(LINES, 9, LINES, id="nothing-beyond"),
        pytest.param(LINES, 0, "", id="from-the-start"),
        pytest.param('{"step": 1}\n{"st', 5, '{"step": 1}\n', id="torn-line"),
        pytest.param("", 5, "", id="empty"),
    ],
)
def test_rows_up_to(text: str, step: int, kept: str) -> None:
    assert rows_up_to(text, step) == kept


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"apiVersion: v1\n", id="no-json"),
        pytest.param(b"{}\n", id="no-step"),
        pytest.param(b"[1]\n", id="no-object"),
        pytest.param(b"\xff\n", id="no-text"),
    ],
)
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content)

    with pytest.raises(UserMistake, match=r"run\.yaml is not a file of metric rows"):
        MetricsFile(path, resumed_step=0)

    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_samples_is_there_once_a_step_shows_some_and_has_each_step_once(tmp_path: Path) -> None:
    path = samples_path(tmp_path / "metrics.jsonl")
    first = SamplesFile(path, resumed_step=0)
    first.write(row(1))
    assert not path.exists()
    for step in (2, 3):
        first.write(row(step), [shown(step), shown(step, 1)])
    second = SamplesFile(path, resumed_step=2)
    second.write(row(3), [shown(9)])
    second.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["step"], line["prompt"], line["sibling"]) for line in lines] == [
        (2, 2, 0),
        (2, 2, 1),
        (3, 9, 0),
    ]
    with pytest.raises(UserMistake, match=r"is not a file of samples"):
        path.write_text("no sample\n")
        SamplesFile(path, resumed_step=0)


def test_a_resumed_file_has_each_step_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "metrics.jsonl"
    first = MetricsFile(path, resumed_step=0)
    for step in (1, 2, 3):
        first.write(row(step))

    second = MetricsFile(path, resumed_step=2)
    second.write(row(3))
    second.close()

    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert set(rows[0]) == {
        "step",
        "time",
        "loss",
        "gradientNorm",
        "learningRate",
        "tokens",
        "tokensPerSecond",
        "sampleDigest",
    }


def test_a_progress_line_says_what_matters() -> None:
    assert progress_line(row(20), 300) == (
        "step 20/300  loss 2.5000  lr 0.0006  1,234 tokens/s  gradient norm 0.500"
    )
