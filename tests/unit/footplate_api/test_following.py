"""Events of a watch are gathered: none is lost, none changes its place, and trouble comes after them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import pytest

from footplate_api.errors import ListExpired
from footplate_api.pipelines.following import MOST_EVENTS, gathered
from footplate_api.ports import EventType, WatchEvent

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def event(version: int) -> WatchEvent:
    return WatchEvent(EventType.MODIFIED, {"metadata": {"resourceVersion": str(version)}})


async def groups(*sizes: int, fails: bool = False) -> AsyncIterator[Sequence[WatchEvent]]:
    version = 0
    for size in sizes:
        yield [event(version + number) for number in range(1, size + 1)]
        version += size
    if fails:
        raise ListExpired("too old")


async def read(source: AsyncIterator[Sequence[WatchEvent]], seconds: float) -> list[list[int]]:
    return [
        [int(event.resource_version) for event in group]
        async for group in gathered(source, seconds, lambda: NOW)
    ]


async def test_what_arrives_together_is_one_group() -> None:
    assert await read(groups(1, 2, 1), seconds=5.0) == [[1, 2, 3, 4]]


async def test_nothing_of_nothing() -> None:
    assert await read(groups(), seconds=5.0) == []


async def test_all_that_came_before_the_trouble_is_handed_on() -> None:
    seen = []
    with pytest.raises(ListExpired):
        async for group in gathered(groups(1, 2, fails=True), 5.0, lambda: NOW):
            seen += group
    assert [int(event.resource_version) for event in seen] == [1, 2, 3]


async def test_each_event_has_the_time_of_its_arrival() -> None:
    [group] = [group async for group in gathered(groups(2), 5.0, lambda: NOW)]
    assert [event.heard_at for event in group] == [NOW, NOW]


async def test_a_watch_is_read_no_faster_than_events_are_written() -> None:
    """However much there is, at most so many wait; and all come, in order."""
    made = await read(groups(*[MOST_EVENTS] * 4), seconds=0.0)
    assert max(map(len, made)) <= MOST_EVENTS
    assert [version for group in made for version in group] == list(range(1, 4 * MOST_EVENTS + 1))


async def test_who_stops_listening_ends_the_watch() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[Sequence[WatchEvent]]:
        try:
            while True:
                yield [event(1)]
                await asyncio.sleep(0)
        finally:
            closed.set()

    watching = gathered(endless(), 0.0, lambda: NOW)
    await anext(watching)
    await watching.aclose()
    await asyncio.wait_for(closed.wait(), 10)
