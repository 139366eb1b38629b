"""What watch events come down to, when pages of a list are asked for, and how long a failing mirror waits."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from footplate_api.errors import ListExpired
from footplate_api.kubernetes.client import EventType, ListPage, WatchEvent
from footplate_api.mirror.reflector import retry_delay
from footplate_api.mirror.runs import changes, pages

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def event(kind: EventType, uid: str, version: int) -> WatchEvent:
    metadata = {
        "uid": uid,
        "namespace": "research",
        "name": uid,
        "resourceVersion": str(version),
        "creationTimestamp": "2026-11-25T10:00:00Z",
    }
    return WatchEvent(kind, {"metadata": metadata})


@pytest.mark.parametrize(
    ("events", "rows"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([event(EventType.ADDED, "a", 1)], [("a", 1, None)], id="added"),
        pytest.param(
            [event(EventType.ADDED, "a", 1), event(EventType.MODIFIED, "a", 2)],
            [("a", 2, None)],
            id="last-wins",
        ),
        pytest.param(
            [event(EventType.MODIFIED, "a", 2), event(EventType.DELETED, "a", 3)],
            [("a", 3, NOW)],
            id="deleted",
        ),
        pytest.param(
            [event(EventType.DELETED, "a", 3), event(EventType.ADDED, "b", 4)],
            [("a", 3, NOW), ("b", 4, None)],
            id="two-runs",
        ),
        pytest.param([event(EventType.BOOKMARK, "", 9)], [], id="bookmark"),
    ],
)
def test_changes(events: list[WatchEvent], rows: list[tuple[str, int, datetime | None]]) -> None:
    made = [(row["uid"], row["resource_version"], row["deleted_at"]) for row in changes(events, NOW).runs]
    assert made == rows


@pytest.mark.parametrize(
    ("failures", "chance", "seconds"),
    [
        pytest.param(1, 1.0, 0.5, id="first"),
        pytest.param(3, 1.0, 2.0, id="doubling"),
        pytest.param(100, 1.0, 15.0, id="at-most"),
        pytest.param(1, 0.0, 0.25, id="spread"),
    ],
)
def test_retry_delay(failures: int, chance: float, seconds: float) -> None:
    assert retry_delay(failures, chance) == seconds


@dataclass
class Listing:
    """A list of three pages, of which the one after `lost` cannot be read any more."""

    lost: str = ""
    asked: list[str | None] = field(default_factory=list)
    pending: int = 0  # questions without an answer

    async def ask(self, token: str | None) -> ListPage:
        self.asked.append(token)
        self.pending += 1
        try:
            await asyncio.sleep(0)
        finally:
            self.pending -= 1
        if token == self.lost:
            raise ListExpired("too old")
        return ListPage([], "7", {None: "1", "1": "2"}.get(token))


async def test_the_next_page_is_asked_for_while_one_is_taken() -> None:
    listing, asked = Listing(), []
    async for _ in pages(listing.ask, await listing.ask(None)):
        await asyncio.sleep(0)
        asked.append(listing.asked[-1])
    assert asked == ["1", "2", "2"]


async def test_a_page_that_is_lost_is_said_after_those_before_it_are_taken() -> None:
    listing, taken = Listing(lost="2"), 0
    with pytest.raises(ListExpired):
        async for _ in pages(listing.ask, await listing.ask(None)):
            await asyncio.sleep(0)
            taken += 1
    assert taken == 2


async def test_nobody_waits_for_a_page_after_the_caller_has_enough() -> None:
    listing = Listing()
    async with aclosing(pages(listing.ask, await listing.ask(None))) as rest:
        async for _ in rest:
            await asyncio.sleep(0)
            assert listing.pending == 1
            break
    assert listing.pending == 0
