"""Files of metric rows: one row per step, each step exactly once, across restarts.

A run that was killed has written rows beyond its last checkpoint; trained again, those steps would be there
twice. So a resumed run first truncates its files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from footplate_contracts.metrics import COLUMNS, StepMetrics
from footplate_contracts.samples import LoggedSample, truncate_samples
from footplate_trainer.errors import UserMistake


def rows_up_to(text: str, step: int) -> str:
    """Return the whole lines of `text` whose step is at most `step`; a torn last line is dropped.

    ValueError for a line that is no row.
    """
    kept = []
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n") or _step_of(line) > step:
            break
        kept.append(line)
    return "".join(kept)


def _step_of(line: str) -> int:
    row = json.loads(line)
    step = row.get("step") if isinstance(row, dict) else None
    if not isinstance(step, int):
        raise ValueError(f"{line[:40]!r} has no step")
    return step


class RowSink:
    """Destination of one row per step, and of the samples that the step shows."""

    def write(self, row: StepMetrics, samples: Sequence[LoggedSample] = ()) -> None:
        """Write a row."""
        raise NotImplementedError

    def flush(self) -> None:
        """Flush buffered rows, so that a run that resumes from here need not write them again."""

    def close(self) -> None:
        """Close the sink, where it has anything to close."""


class MetricsFile(RowSink):
    """metrics.jsonl: an append-only file of JSON rows; every row is passed to the kernel as it is written."""

    def __init__(self, path: Path, resumed_step: int) -> None:
        """Truncate the file to `resumed_step` and open it; UserMistake for other content, which stays."""
        _cut_back(path, resumed_step, "metric rows")
        self._file: TextIO = path.open("a", buffering=1)

    def write(self, row: StepMetrics, samples: Sequence[LoggedSample] = ()) -> None:
        """Append `row`; its keys are camelCase, NaN and infinity are strings."""
        self._file.write(json.dumps(row.to_json()) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def samples_path(path: Path) -> Path:
    """Return the file for samples of the steps whose rows are written to `path`.

    >>> samples_path(Path("runs/metrics.jsonl"))
    PosixPath('runs/metrics.samples.jsonl')
    """
    return path.with_name(f"{path.stem}.samples{path.suffix}")


class SamplesFile(RowSink):
    """A file of JSON samples, each with its step; created with the first sample."""

    def __init__(self, path: Path, resumed_step: int) -> None:
        """Truncate the file to `resumed_step`; UserMistake if it has other content, which stays."""
        _cut_back(path, resumed_step, "samples")
        self._path = path
        self._file: TextIO | None = None

    def write(self, row: StepMetrics, samples: Sequence[LoggedSample] = ()) -> None:
        """Append `samples`; keys are camelCase, NaN and infinity are strings."""
        if not samples:
            return
        if self._file is None:
            self._file = self._path.open("a", buffering=1)
        for sample in truncate_samples(samples):
            self._file.write(json.dumps({"step": row.step, **sample.to_json()}) + "\n")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _cut_back(path: Path, resumed_step: int, what: str) -> None:
    """Truncate an earlier file to the rows up to `resumed_step`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        return
    replacement = path.with_name(path.name + ".resumed")
    try:
        kept = rows_up_to(path.read_text(), resumed_step)
    except ValueError as error:
        raise UserMistake(f"{path} is not a file of {what} ({error}); pass another file") from error
    replacement.write_text(kept)
    replacement.replace(path)


class TensorBoardSink(RowSink):
    """TensorBoard's event files in `folder`; new events replace those beyond `resumed_step`.

    The format itself has a session start that names a step, from which on the reader discards earlier events.
    Rows before a checkpoint must be in the file by then, so each checkpoint flushes.
    """

    def __init__(self, folder: Path, resumed_step: int) -> None:
        # Here, as it imports much that most runs never need.
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=resumed_step + 1)

    def write(self, row: StepMetrics, samples: Sequence[LoggedSample] = ()) -> None:
        """Write a scalar for each measured number of `row`; further numbers have a group of their own."""
        for column in COLUMNS:
            value = getattr(row, column.name)
            if column.shown is not None and value is not None:
                self._writer.add_scalar(column.shown.tag, value, row.step, row.time)
        for name, value in (row.values or {}).items():
            self._writer.add_scalar(f"values/{name}", value, row.step, row.time)

    def flush(self) -> None:
        """Pass everything to the kernel."""
        self._writer.flush()

    def close(self) -> None:
        """Flush, and end the writer thread."""
        self._writer.close()


def progress_line(row: StepMetrics, total_steps: int) -> str:
    """Format `row` as one line for the console."""
    return (
        f"step {row.step}/{total_steps}  loss {row.loss:.4f}  lr {row.learning_rate:.3g}  "
        f"{row.tokens_per_second:,.0f} tokens/s  gradient norm {row.gradient_norm:.3f}"
    )
