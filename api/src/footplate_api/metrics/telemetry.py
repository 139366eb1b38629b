"""Validates a batch of telemetry, and converts it into what is stored; pure.

All of it runs off the event loop, and before any query to the database: five thousand rows are a hundred
thousand values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final

from footplate_api.errors import Invalid
from footplate_api.http import json_models
from footplate_api.serialization.schemas import LARGEST
from footplate_contracts.metrics import COLUMNS, StepMetrics, values_error
from footplate_contracts.reports import (
    CheckpointRecord,
    CheckpointRemoval,
    DroppedTelemetry,
    GenerationId,
    GenerationRow,
    TelemetryBatch,
)
from footplate_contracts.samples import LoggedSample, truncate_samples

Generation = tuple[int, int]
"""(epoch, number)."""

STORED: Final = tuple(column.name for column in COLUMNS)
"""The columns of a row in the order in which `Row` has their values; the first is `step`."""

_TIME: Final = STORED.index("time")
_FAR: Final = 253_402_300_800.0  # the year 10000, which no date has
_UID: Final = re.compile(r"[-0-9A-Za-z]{1,64}")
_WHOLE: Final = [column for column in COLUMNS if column.type is int]
_TEXTS: Final = [column for column in COLUMNS if column.type is str]
_values: Final[Callable[[StepMetrics], tuple[Any, ...]]] = attrgetter(*STORED)
GENERATIONS_AT_ONCE: Final = 100  # the most that one batch is of; a sender divides what is of more
_DIRECTORY: Final = re.compile(r"\.e(\d{1,18})g(\d{1,18})/?$")  # of a checkpoint: step-50.e1g2


@dataclass(frozen=True)
class TelemetryRow:
    """A row as it is stored: its columns in the order of STORED, and the further numbers by name.

    Beside it some samples of its step.
    """

    columns: tuple[Any, ...]
    further: Mapping[str, float] | None = None
    samples: Sequence[LoggedSample] = ()

    @property
    def step(self) -> int:
        """Step of the row."""
        return int(self.columns[0])


@dataclass(frozen=True)
class ParsedBatch:
    """Contents of one batch, of the run that the path named."""

    namespace: str
    name: str
    run_uid: str
    epoch: int
    rows: Mapping[Generation, list[TelemetryRow]] = field(default_factory=dict)
    checkpoints: tuple[CheckpointRecord, ...] = ()
    removals: tuple[CheckpointRemoval, ...] = ()
    given_up: DroppedTelemetry = field(default_factory=DroppedTelemetry)

    @property
    def count(self) -> int:
        """Number of rows."""
        return sum(len(rows) for rows in self.rows.values())

    @property
    def points(self) -> int:
        """Number of values in the rows."""
        each = (row for rows in self.rows.values() for row in rows)
        return sum(len(row.columns) - row.columns.count(None) + len(row.further or ()) for row in each)

    @property
    def entries(self) -> int:
        """Number of entries to store: rows, their samples, checkpoints and removals."""
        samples = sum(len(row.samples) for rows in self.rows.values() for row in rows)
        return self.count + samples + len(self.checkpoints) + len(self.removals)

    @property
    def last_time(self) -> float | None:
        """Latest time at which a row was measured, in seconds since the Unix epoch; None without one."""
        times = (row.columns[_TIME] for rows in self.rows.values() for row in rows)
        return max((time for time in times if time is not None and 0 <= time < _FAR), default=None)


def parse_batch(namespace: str, name: str, body: bytes) -> ParsedBatch:
    """Parse the batch in `body`; raises Invalid for what no column could hold: senders must not retry."""
    batch = json_models.parse_model(TelemetryBatch, body)
    validate_batch(batch)
    rows: dict[Generation, list[TelemetryRow]] = {}
    for row in batch.rows:
        rows.setdefault((row.generation.epoch, row.generation.number), []).append(
            to_row(row.metrics, row.samples or ())
        )
    return ParsedBatch(
        namespace,
        name,
        batch.run_uid,
        batch.epoch,
        rows,
        tuple(batch.checkpoints),
        tuple(batch.removals),
        batch.given_up,
    )


def to_row(metrics: StepMetrics, samples: Sequence[LoggedSample] = ()) -> TelemetryRow:
    """Return `metrics` as a row, with samples of its step: NaN becomes NULL, as SQLite has no NaN."""
    columns = _values(metrics)
    # Unequal to itself is NaN alone; in most rows there is none, and one pass over them is enough.
    if any(value != value for value in columns):
        columns = tuple(None if value != value else value for value in columns)
    return TelemetryRow(columns, metrics.values or None, truncate_samples(samples) if samples else ())


def validate_batch(batch: TelemetryBatch) -> None:
    """Raise Invalid for the first field whose value cannot be stored."""
    if not _UID.fullmatch(batch.run_uid):
        raise Invalid.field("body.runUid", batch.run_uid, "must be the metadata.uid of a TrainingRun")
    _whole("body.epoch", batch.epoch)
    _whole("body.givenUp.refused", batch.given_up.refused)
    _whole("body.givenUp.overflowed", batch.given_up.overflowed)
    for index, row in enumerate(batch.rows):
        _check_row(f"body.rows[{index}]", row, batch.epoch)
    generations = {(row.generation.epoch, row.generation.number) for row in batch.rows}
    if len(generations) > GENERATIONS_AT_ONCE:
        said = f"rows of {len(generations)} generations"
        raise Invalid.field("body.rows", said, f"must be of at most {GENERATIONS_AT_ONCE} generations")
    for index, record in enumerate(batch.checkpoints):
        _check_checkpoint(f"body.checkpoints[{index}]", record, batch.epoch)
    for index, removal in enumerate(batch.removals):
        place = f"body.removals[{index}]"
        _whole(f"{place}.step", removal.step)
        _check_generation(f"{place}.generation", removal.generation, batch.epoch)
        _finite(f"{place}.time", removal.time)


def _check_row(place: str, row: GenerationRow, epoch: int) -> None:
    for column in _WHOLE:
        value = getattr(row.metrics, column.name)
        if value is not None and not 0 <= value <= LARGEST:
            _whole(f"{place}.metrics.{column.alias}", value)
    for column in _TEXTS:
        _text(f"{place}.metrics.{column.alias}", getattr(row.metrics, column.name) or "")
    _check_generation(f"{place}.generation", row.generation, epoch)
    if row.metrics.values and (wrong := values_error(row.metrics.values)):
        raise Invalid.field(f"{place}.metrics.values", f"{len(row.metrics.values)} numbers", wrong)


def _check_generation(place: str, generation: GenerationId, epoch: int) -> None:
    """Raise Invalid for a bad number, or an epoch after the sender's, which would bar all true rows."""
    if generation.epoch > epoch:
        raise Invalid.field(f"{place}.epoch", generation.epoch, f"must be at most the sender's, {epoch}")
    if not 0 <= generation.number <= LARGEST:
        _whole(f"{place}.number", generation.number)


def _check_checkpoint(place: str, record: CheckpointRecord, epoch: int) -> None:
    _whole(f"{place}.step", record.step)
    _whole(f"{place}.bytes", record.bytes)
    _text(f"{place}.uri", record.uri)
    if record.generation is not None:
        _check_generation(f"{place}.generation", record.generation, epoch)
    elif (committed := committing_generation(record)) is not None and committed[0] > epoch:
        raise Invalid.field(f"{place}.uri", record.uri[:100], f"must have an epoch of at most {epoch}")
    _finite(f"{place}.time", record.time)
    _finite(f"{place}.secondsBlocked", record.seconds_blocked)
    _finite(f"{place}.secondsTotal", record.seconds_total)


def committing_generation(record: CheckpointRecord) -> Generation | None:
    """Return the generation that committed it, by the record, else by the directory's name, else None."""
    if record.generation is not None:
        return record.generation.epoch, record.generation.number
    found = _DIRECTORY.search(record.uri)
    return (int(found[1]), int(found[2])) if found else None


def _finite(field: str, value: float) -> None:
    if not math.isfinite(value):
        raise Invalid.field(field, value, "must be a finite number")


def _whole(field: str, value: int) -> None:
    if not 0 <= value <= LARGEST:
        raise Invalid.field(field, value, f"must be from 0 to {LARGEST}")


def _text(field: str, value: str) -> None:
    if "\0" in value:
        raise Invalid.field(field, value[:100], "must be text without NUL characters")
