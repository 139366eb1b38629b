"""Events of a watch are gathered: none is lost, none changes its place, and trouble comes after them.

What changes while a list is read is taken over beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, cast

import pytest

from footplate_api.db.database import Database
from footplate_api.errors import ClusterUnavailable, ListExpired
from footplate_api.instruments import ApiMetrics, MirrorHealth
from footplate_api.kubernetes.client import EventType, KubernetesClient, WatchEvent
from footplate_api.mirror.reflector import MOST_EVENTS, Reflector, batch_events

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
        async for group in batch_events(source, seconds, lambda: NOW)
    ]


async def test_what_arrives_together_is_one_group() -> None:
    assert await read(groups(1, 2, 1), seconds=5.0) == [[1, 2, 3, 4]]


async def test_nothing_of_nothing() -> None:
    assert await read(groups(), seconds=5.0) == []


async def test_all_that_came_before_the_trouble_is_handed_on() -> None:
    seen = []
    with pytest.raises(ListExpired):
        async for group in batch_events(groups(1, 2, fails=True), 5.0, lambda: NOW):
            seen += group
    assert [int(event.resource_version) for event in seen] == [1, 2, 3]


async def test_each_event_has_the_time_of_its_arrival() -> None:
    [group] = [group async for group in batch_events(groups(2), 5.0, lambda: NOW)]
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

    watching = batch_events(endless(), 0.0, lambda: NOW)
    await anext(watching)
    await watching.aclose()
    await asyncio.wait_for(closed.wait(), 10)


# -- lists and watches -----------------------------------------------------------------------


@dataclass
class Kept(Reflector):
    """Follows what a test says."""

    kind: ClassVar[str] = "Things"

    beside: bool = True  # what changes may be taken over while the list is read
    fails: bool = False
    expires: bool = False
    whole: asyncio.Event = field(default_factory=asyncio.Event)  # lets the list end
    applied: list[int] = field(default_factory=list)
    heard_of: list[str] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    lists: int = 0
    again: asyncio.Event = field(default_factory=asyncio.Event)  # a second list was begun

    async def list(self) -> str:
        self.lists += 1
        if self.lists > 1:
            self.again.set()
        if self.beside:
            self.allow_watch("7")
        if self.fails and self.lists == 1:
            raise ClusterUnavailable("away")
        await self.whole.wait()
        self.record_contact()
        return "7"

    async def watch(self, version: str) -> AsyncIterator[Sequence[WatchEvent]]:
        assert version == "7"
        yield [event(8)]
        if self.expires:
            raise ListExpired("too old")
        await asyncio.Event().wait()

    async def apply(self, events: Sequence[WatchEvent]) -> None:
        self.applied += [int(told.resource_version) for told in events]
        self.news.set()

    def record_contact(self) -> None:
        super().record_contact()
        self.heard_of.append("list" if not self._whole else "watch")


@asynccontextmanager
async def followed(chance: Callable[[], float] = lambda: 0.0, **changed: Any) -> AsyncIterator[Kept]:
    """A follower that runs for the block."""
    metrics = ApiMetrics()
    database = cast(Database, None)  # it asks none
    kept = Kept(
        cast(KubernetesClient, None),
        database,
        metrics,
        MirrorHealth(),
        lambda: NOW,
        chance=chance,
        gather_seconds=0.0,
        **changed,
    )
    running = asyncio.create_task(kept.run())
    try:
        yield kept
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_what_changes_while_a_list_is_read_is_taken_over_and_says_nothing_of_the_list() -> None:
    async with followed() as kept:
        await asyncio.wait_for(kept.news.wait(), 10)
        assert kept.applied == [8] and kept.heard_of == [] and kept.lists == 1
        kept.whole.set()


async def test_a_list_that_must_be_whole_is_waited_for() -> None:
    async with followed(beside=False) as kept:
        for _ in range(10):
            await asyncio.sleep(0)
        assert kept.applied == []
        kept.whole.set()
        await asyncio.wait_for(kept.news.wait(), 10)
        assert kept.applied == [8]


async def test_a_list_that_fails_ends_the_watch_beside_it_and_is_begun_again() -> None:
    async with followed(fails=True) as kept:
        await asyncio.wait_for(kept.again.wait(), 30)
        assert kept.health.troubles["Things"] == "away"
        kept.whole.set()


async def test_a_watch_that_expires_ends_the_list_beside_it_and_all_is_listed_again() -> None:
    async with followed(expires=True) as kept:
        await asyncio.wait_for(kept.again.wait(), 30)
        assert kept.heard_of == []


async def test_after_a_watch_that_expired_all_is_listed_at_once_and_then_ever_more_rarely() -> None:
    """What changed since is in no table until then."""
    waited: list[tuple[int, int]] = []  # failures and lists by then

    def counted() -> float:
        waited.append((kept.failures, kept.lists))
        return 0.0

    async with followed(counted, expires=True) as kept:
        for _ in range(2):
            await asyncio.wait_for(kept.again.wait(), 30)
            kept.again.clear()
        assert waited[0] == (2, 2)
