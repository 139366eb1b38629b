"""Writes of samples, in the transaction of their rows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pydantic_core import to_json

from footplate_api.db.bulk import insert_missing
from footplate_api.db.database import WriteSession
from footplate_api.models.base import table_of
from footplate_api.models.metric import StepSample
from footplate_contracts.samples import LoggedSample

Place = tuple[int, int]
"""Segment and step."""

_TABLE: Final = table_of(StepSample)
_COLUMNS: Final = tuple(column.name for column in _TABLE.columns)


async def store_samples(session: WriteSession, shown: Iterable[tuple[Place, Sequence[LoggedSample]]]) -> None:
    """Insert samples, and leave existing ones as they are."""
    rows = [row for place, samples in shown for row in _rows(place, samples)]
    rows.sort(key=lambda row: row[:3])  # so that two writers never wait for each other in a ring
    await insert_missing(session, _TABLE, _COLUMNS, rows)


def _rows(place: Place, samples: Sequence[LoggedSample]) -> list[tuple[Any, ...]]:
    """Return tuples in the order of the columns."""
    rewards = [to_json(sample.rewards, inf_nan_mode="strings").decode() for sample in samples]
    texts = [text for sample in samples for text in (sample.prompt_text, sample.answer_text)]
    size = sum(len(text.encode()) for text in (*texts, *rewards))
    return [
        (
            *place,
            number,
            sample.prompt,
            sample.sibling,
            sample.prompt_text,
            sample.answer_text,
            sample.tokens,
            sample.end and sample.end.value,
            rewards[number],
            _number(sample.reward),
            _number(sample.advantage),
            size,
        )
        for number, sample in enumerate(samples)
    ]


def _number(value: float | None) -> float | None:
    """Return None for NaN, which SQLite does not have."""
    return None if value is None or math.isnan(value) else value


def rewards(text: str) -> dict[str, float]:
    """Parse the column of rewards, written as JSON with NaN and infinities as strings.

    >>> rewards('{"right":1.0,"style":"NaN"}')
    {'right': 1.0, 'style': nan}
    """
    return {name: float(value) for name, value in json.loads(text).items()}
