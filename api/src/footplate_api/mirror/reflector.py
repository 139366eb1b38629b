"""Reflector of one Kubernetes kind: lists it, watches changes after the list, and lists again.

A list has the whole state, a watch the changes after it. Watches may lose events (an expired version, a
restart of the API server), so everything is listed again after each error and every few minutes.
"""

from __future__ import annotations

import asyncio
import logging
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, ClassVar, Final

from footplate_api.db.database import Database
from footplate_api.errors import ApiError, DatabaseUnavailable, ListExpired
from footplate_api.instruments import ApiMetrics, MirrorHealth, trouble_key
from footplate_api.kubernetes.client import KubernetesClient, WatchEvent
from footplate_api.tasks.periodic import attempt
from footplate_contracts.backoff import backoff_seconds

RELIST_SECONDS: Final = 600.0
FIRST_RETRY_SECONDS: Final = 0.5
LONGEST_RETRY_SECONDS: Final = 15.0
PAUSE_SECONDS: Final = 0.1  # between watches, should a proxy end each at once; and after one that expired
GATHER_SECONDS: Final = 0.25
MOST_EVENTS: Final = 1000  # that wait to be written; then the watch is read no further

log = logging.getLogger(__name__)


@dataclass
class Reflector(ABC):
    """Background task that lists and watches one kind; any number of them may share one database."""

    kind: ClassVar[str]

    cluster: KubernetesClient
    database: Database
    metrics: ApiMetrics
    health: MirrorHealth
    now: Callable[[], datetime]
    chance: Callable[[], float] = random.random
    gather_seconds: float = GATHER_SECONDS
    failures: int = 0  # since a watch last worked
    place: str = ""  # the namespace that `cluster` shows; empty: all of them
    _begun: asyncio.Future[str] | None = field(default=None, init=False)  # version of the list that is read
    _whole: bool = field(default=False, init=False)  # the list has been taken over

    @abstractmethod
    async def list(self) -> str:
        """Store all that exists; return the version from which to watch.

        Where the task may watch during the list, call `allow_watch` with that version first.
        """

    @abstractmethod
    def watch(self, version: str) -> AsyncIterator[Sequence[WatchEvent]]:
        """Yield changes after `version`."""

    @abstractmethod
    async def apply(self, events: Sequence[WatchEvent]) -> None:
        """Store the changes in `events`."""

    async def run(self) -> None:
        """List and watch until cancelled, with retries after errors of Kubernetes and of the database."""
        while True:
            error = await attempt(self._round_until_expired, f"the mirror of {self.kind}")
            if isinstance(error, ApiError):
                log.warning("%s", error.detail)
            if isinstance(error, DatabaseUnavailable):  # /readyz asks the database itself
                self.metrics.mirror_failures.inc()
                await self._wait()
            elif isinstance(error, ApiError):
                await self._trouble(error.detail)
            elif error is not None:
                await self._trouble(f"The mirror of {self.kind} failed with {type(error).__name__}.")

    @property
    def is_watching(self) -> bool:
        """True if the watch may run while the list is read."""
        return self._begun is not None and self._begun.done()

    def allow_watch(self, version: str) -> None:
        """Start the watch from `version`, which the list that is being read shows."""
        if self._begun is not None and not self._begun.done():
            self._begun.set_result(version)

    async def _round_until_expired(self) -> None:
        try:
            await self._round()
        except ListExpired as error:
            log.info("listing %s again: %s", trouble_key(self.kind, self.place), error)
            await self._wait(self.failures > 0)  # what changes from here on comes with the list alone

    async def _round(self) -> None:
        """List, and watch changes after the list until it is time to list again."""
        self._begun, self._whole = asyncio.get_running_loop().create_future(), False
        listing = asyncio.create_task(self._list())
        tasks: list[asyncio.Task[None]] = [listing]
        try:
            first: set[asyncio.Future[Any]] = {listing, self._begun}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if not self._begun.done():
                await listing  # raises what went wrong
            following = asyncio.create_task(self._follow(self._begun.result()))
            tasks.append(following)
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _list(self) -> None:
        version = await self.list()
        self._whole = True
        self.allow_watch(version)

    async def _trouble(self, detail: str) -> None:
        self.health.troubles[trouble_key(self.kind, self.place)] = detail
        self.metrics.mirror_failures.inc()
        await self._wait()

    async def _wait(self, long: bool = True) -> None:
        self.failures += 1
        await asyncio.sleep(retry_delay(self.failures, self.chance()) if long else PAUSE_SECONDS)

    async def _follow(self, version: str) -> None:
        relist = self.now().timestamp() + RELIST_SECONDS
        while self.now().timestamp() < relist:
            async with aclosing(batch_events(self.watch(version), self.gather_seconds, self.now)) as groups:
                async for events in groups:
                    await self.apply(events)
                    version = events[-1].resource_version
                    self._works()
            self._works()
            await asyncio.sleep(PAUSE_SECONDS)

    def _works(self) -> None:
        """Record a response of Kubernetes, if the list is complete, too."""
        if self._whole:
            self.failures = 0
            self.record_contact()

    def record_contact(self) -> None:
        """Record that Kubernetes answered, which ends the trouble with this kind."""
        self.health.troubles.pop(trouble_key(self.kind, self.place), None)


async def batch_events(
    groups: AsyncIterator[Sequence[WatchEvent]], seconds: float, now: Callable[[], datetime]
) -> AsyncGenerator[Sequence[WatchEvent], None]:
    """Yield the events of `groups` with their arrival times, in batches of `seconds`.

    An error of the watch is raised after all earlier events were yielded.
    """
    waiting: list[WatchEvent] = []
    news, room = asyncio.Event(), asyncio.Event()

    async def read() -> None:
        try:
            async for group in groups:
                at = now()
                waiting.extend(replace(event, heard_at=at) for event in group)
                news.set()
                while len(waiting) >= MOST_EVENTS:
                    room.clear()
                    await room.wait()
        finally:
            news.set()

    reading = asyncio.create_task(read())
    try:
        while not reading.done() or waiting:
            await news.wait()
            if not reading.done():
                await asyncio.wait([reading], timeout=seconds)  # more may come
            news.clear()
            taken = waiting[:]
            waiting.clear()
            room.set()
            if taken:
                yield taken
        await reading
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def retry_delay(failures: int, chance: float) -> float:
    """Return the seconds to wait after so many failures in a row; `chance` in [0, 1) spreads replicas."""
    return backoff_seconds(
        failures, first=FIRST_RETRY_SECONDS, longest=LONGEST_RETRY_SECONDS, jitter=(0.5, 1.0), chance=chance
    )
