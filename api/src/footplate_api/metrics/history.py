"""Which telemetry can be stored, which rows are kept, which are shown; pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Final

from footplate_api.errors import Invalid
from footplate_api.schemas import LARGEST
from footplate_contracts.metrics import COLUMNS
from footplate_contracts.reports import CheckpointRecord, GenerationRow, TelemetryBatch

_UID: Final = re.compile(r"[-0-9A-Za-z]{1,64}")
_WHOLE: Final = [column for column in COLUMNS if column.type is int]
_TEXTS: Final = [column for column in COLUMNS if column.type is str]


def check(batch: TelemetryBatch) -> None:
    """Raises Invalid for what no column could hold; a sender must not try that again."""
    if not _UID.fullmatch(batch.run_uid):
        raise Invalid.field("body.runUid", batch.run_uid, "must be the metadata.uid of a TrainingRun")
    for index, row in enumerate(batch.rows):
        _check_row(f"body.rows[{index}]", row)
    for index, record in enumerate(batch.checkpoints):
        _check_checkpoint(f"body.checkpoints[{index}]", record)


def _check_row(place: str, row: GenerationRow) -> None:
    for column in _WHOLE:
        _whole(f"{place}.metrics.{column.alias}", getattr(row.metrics, column.name) or 0)
    for column in _TEXTS:
        _text(f"{place}.metrics.{column.alias}", getattr(row.metrics, column.name) or "")
    _whole(f"{place}.generation.epoch", row.generation.epoch)
    _whole(f"{place}.generation.number", row.generation.number)


def _check_checkpoint(place: str, record: CheckpointRecord) -> None:
    _whole(f"{place}.step", record.step)
    _whole(f"{place}.bytes", record.bytes)
    _text(f"{place}.uri", record.uri)
    for name, value in (
        ("time", record.time),
        ("secondsBlocked", record.seconds_blocked),
        ("secondsTotal", record.seconds_total),
    ):
        if not math.isfinite(value):
            raise Invalid.field(f"{place}.{name}", value, "must be a finite number")


def _whole(field: str, value: int) -> None:
    if not 0 <= value <= LARGEST:
        raise Invalid.field(field, value, f"must be from 0 to {LARGEST}")


def _text(field: str, value: str) -> None:
    if "\0" in value:
        raise Invalid.field(field, value[:100], "must be text without NUL characters")


def newest(rows: Iterable[GenerationRow]) -> list[GenerationRow]:
    """One row a step, in order of steps: that of the newest generation.

    The database applies the same rule between batches; within one it could not, as
    PostgreSQL refuses to touch a row twice in one statement.
    """
    kept: dict[int, GenerationRow] = {}
    for row in rows:
        known = kept.get(row.metrics.step)
        if known is None or row.generation.newer_than(known.generation):
            kept[row.metrics.step] = row
    return [kept[step] for step in sorted(kept)]


def stride(first: int, last: int, limit: int) -> int:
    """The smallest `every` for which steps first..last give at most `limit` rows.

    Shown are the multiples of `every`, and the last step whether it is one or not.

    >>> stride(1, 300, 5000), stride(0, 99_999, 5000)
    (1, 21)
    """
    steps = last - first + 1
    if steps <= limit:
        return 1
    # At most span // every + 1 multiples lie in a span, plus the last step.
    return -(-steps // max(limit - 2, 1))
