"""What of the rows of a history fits into an answer, and how it is written."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import strategies as st

from footplate_api.metrics import packed_values
from footplate_api.metrics.columns import HistoryColumns
from footplate_contracts.metrics import COLUMNS
from tests.support.properties import given

BY_NAME = {column.name: column for column in COLUMNS}
ASKED = [BY_NAME[name] for name in ("loss", "tokens", "sample_digest", "memory_bytes", "mfu")]
NAMES = {3: "kl", 5: "reward"}
HEAD = b'{"every":1}'

Row = tuple[Any, ...]


def row(
    step: int, memory: int | None = None, mfu: float | None = None, segment: int = 1, **values: float
) -> Row:
    numbers = {number: values[name] for number, name in NAMES.items() if name in values}
    return segment, step, None, 7, "d", memory, mfu, packed_values.pack(numbers) if numbers else None


def table(*bites: list[Row]) -> HistoryColumns:
    made = HistoryColumns(ASKED, NAMES, {1: "1.1", 2: "1.2"})
    for bite in bites:
        made.add(bite)
    return made


def shown(made: HistoryColumns) -> dict[str, Any]:
    return {"step": list(made.steps)} | dict(json.loads(made.json(HEAD)))


def test_what_no_row_has_is_absent_and_what_some_have_is_null_for_the_others() -> None:
    found = table([row(1), row(2, memory=5, kl=math.inf)], [], [row(3, segment=2, kl=0.5, reward=math.nan)])
    assert shown(found) == {
        "every": 1,
        "step": [1, 2, 3],
        "loss": ["NaN", "NaN", "NaN"],
        "tokens": [7, 7, 7],
        "sampleDigest": ["d", "d", "d"],
        "generation": ["1.1", "1.1", "1.2"],
        "memoryBytes": [None, 5, None],
        "values": {"kl": [None, "Infinity", 0.5], "reward": [None, None, "NaN"]},
    }


def test_without_rows_there_are_the_columns_that_every_row_has() -> None:
    empty = {"every": 1, "step": [], "loss": [], "tokens": [], "sampleDigest": [], "generation": []}
    assert shown(table()) == empty


def test_further_numbers_that_nobody_asked_for_are_not_read() -> None:
    assert table().column_names == ["loss", "tokens", "sample_digest", "memory_bytes", "mfu", "further"]
    few = HistoryColumns(ASKED[:1], {}, None)
    few.add([(1, 4, 0.5)])
    assert (few.column_names, shown(few)) == (["loss"], {"every": 1, "step": [4], "loss": [0.5]})


DRAWN = st.lists(
    st.tuples(st.integers(0, 2), st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=30
)


@given(DRAWN, st.integers(1, 120))
def test_as_many_rows_are_left_as_fit_and_those_of_a_step_stay_together(
    drawn: list[tuple[int, bool, bool, bool]], cells: int
) -> None:
    step, rows = 0, []
    for more, *has in drawn:
        step += more
        known = {name: 1.0 for name, there in zip(("mfu", "kl", "reward"), has, strict=True) if there}
        rows.append(row(step, **known))
    steps = [some[1] for some in rows]

    def taken(count: int) -> int:
        some = rows[:count]
        numbers = {number for known in some for number in packed_values.unpack(known[-1] or b"")}
        return count * (5 + any(known[6] for known in some) + len(numbers))

    ends = [
        count for count in range(1, len(rows) + 1) if count == len(rows) or steps[count - 1] < steps[count]
    ]
    expected = max((count for count in ends if taken(count) <= cells), default=ends[0])
    found = table(rows[:7], rows[7:])
    assert found.cells == taken(len(rows))
    assert found.fit(cells) == (expected < len(rows))
    assert list(found.steps) == steps[:expected]
    assert shown(found) == shown(table(rows[:expected]))


@pytest.mark.parametrize("value", [1e-7, 1e16, 5e-324, 0.1, -3.0])
def test_a_number_is_written_so_that_it_is_read_as_the_same(value: float) -> None:
    assert shown(table([row(1, mfu=value)]))["mfu"] == [value]
