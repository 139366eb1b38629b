"""Which rows of a run are its history, and which steps have none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import strategies as st

from footplate_api.metrics.step_ranges import (
    Extent,
    Extents,
    Segment,
    SegmentRange,
    effective_ranges,
    merge_steps,
    missing_ranges,
    superseded_ranges,
)
from tests.support.properties import given


@dataclass(frozen=True)
class Stored(Segment):
    """A segment, with its extents."""

    extents: tuple[Extent, ...]


def segment(number: int, *extents: Extent, epoch: int = 1) -> Stored:
    return Stored(100 * epoch + number, epoch, number, extents[0][0], extents[-1][1], extents)


def known(segments: Iterable[Stored], last: int | None = None) -> Extents:
    """The extents of `segments`, up to step `last`."""
    return Extents({stored.id: stored.extents for stored in segments}, last)


def rows(ranges: Iterable[SegmentRange], extents: Extents) -> list[tuple[int, str]]:
    """(step, generation) of all rows of `ranges`."""
    return [
        (step, f"{part.segment.epoch}.{part.segment.number}")
        for part in ranges
        for first, last in extents.within(part)
        for step in range(first, last + 1)
    ]


def named(generation: str, *steps: int) -> list[tuple[int, str]]:
    return [(step, generation) for step in steps]


@pytest.mark.parametrize(
    ("segments", "history", "rest"),
    [
        pytest.param([], [], [], id="nothing"),
        pytest.param([segment(1, (1, 3))], named("1.1", 1, 2, 3), [], id="one"),
        pytest.param(
            [segment(1, (1, 10)), segment(2, (6, 7))],
            [*named("1.1", 1, 2, 3, 4, 5), *named("1.2", 6, 7)],
            named("1.1", 6, 7, 8, 9, 10),
            id="rolled-back",
        ),
        pytest.param(
            [segment(1, (1, 5)), segment(2, (6, 8))],
            [*named("1.1", 1, 2, 3, 4, 5), *named("1.2", 6, 7, 8)],
            [],
            id="went-on",
        ),
        pytest.param(
            [segment(1, (1, 6)), segment(2, (4, 5)), segment(3, (5, 6))],
            [*named("1.1", 1, 2, 3), *named("1.2", 4), *named("1.3", 5, 6)],
            [*named("1.1", 4, 5, 6), *named("1.2", 5)],
            id="twice",
        ),
        pytest.param(
            [segment(1, (5, 9)), segment(2, (3, 4))],
            named("1.2", 3, 4),
            named("1.1", 5, 6, 7, 8, 9),
            id="further-back-than-anything-known",
        ),
        pytest.param(
            [segment(9, (1, 4)), segment(1, (3, 3), epoch=2)],
            [*named("1.9", 1, 2), *named("2.1", 3)],
            named("1.9", 3, 4),
            id="a-later-epoch-is-newer-whatever-the-number",
        ),
    ],
)
def test_a_row_counts_if_no_earlier_step_has_a_newer_generation(
    segments: list[Stored], history: list[tuple[int, str]], rest: list[tuple[int, str]]
) -> None:
    extents = known(segments)
    assert rows(effective_ranges(segments), extents) == history
    assert sorted(rows(superseded_ranges(segments), extents)) == sorted(rest)
    assert rows(effective_ranges(segments[::-1]), extents) == history


STEPS = st.lists(st.integers(1, 30), min_size=1, max_size=12, unique=True)


@given(st.lists(STEPS, max_size=6))
def test_every_row_is_history_or_superseded_by_the_rule(generations: list[list[int]]) -> None:
    segments = [segment(number, *merge_steps([], steps)) for number, steps in enumerate(generations, 1)]
    all_rows = [(step, number) for number, steps in enumerate(generations, 1) for step in steps]
    counts = {
        (step, f"1.{number}")
        for step, number in all_rows
        if not any(earlier <= step and newer > number for earlier, newer in all_rows)
    }
    history = rows(effective_ranges(segments), known(segments))
    assert set(history) == counts
    assert [step for step, _ in history] == sorted({step for step, _ in history})
    assert sorted([*history, *rows(superseded_ranges(segments), known(segments))]) == sorted(
        (step, f"1.{number}") for step, number in all_rows
    )
    assert not generations or history[-1] == (max(generations[-1]), f"1.{len(generations)}")


@given(st.lists(STEPS, max_size=6))
def test_extents_are_the_steps_whatever_the_order(parts: list[list[int]]) -> None:
    extents: tuple[Extent, ...] = ()
    for part in parts:
        extents = merge_steps(extents, part)
    assert [step for first, last in extents for step in range(first, last + 1)] == sorted(
        {step for part in parts for step in part}
    )
    assert all(last + 1 < following for (_, last), (following, _) in pairwise(extents))


@pytest.mark.parametrize(
    ("segments", "asked", "missing"),
    [
        pytest.param([segment(1, (1, 9))], (1, 9), [], id="whole"),
        pytest.param([segment(1, (1, 3), (7, 9))], (1, 9), [(4, 6)], id="within"),
        pytest.param([segment(1, (1, 3)), segment(2, (6, 9))], (1, 9), [(4, 5)], id="between-generations"),
        pytest.param([segment(1, (1, 3))], (1, 5), [(4, 5)], id="at-the-end"),
        pytest.param([segment(1, (3, 5))], (1, 5), [(1, 2)], id="at-the-beginning"),
        pytest.param([segment(1, (1, 3), (7, 9))], (2, 5), [(4, 5)], id="of-a-part"),
        pytest.param([segment(1, (1, 3), (7, 9)), segment(2, (5, 6))], (1, 6), [(4, 4)], id="filled-later"),
    ],
)
def test_steps_without_a_row_are_holes(segments: list[Stored], asked: Extent, missing: list[Extent]) -> None:
    assert missing_ranges(effective_ranges(segments), known(segments), *asked) == missing


def test_where_no_more_is_known_nothing_is_called_a_hole() -> None:
    segments = [segment(1, (1, 3), (7, 9))]
    assert missing_ranges(effective_ranges(segments), known(segments, 5), 1, 9) == [(4, 5)]
