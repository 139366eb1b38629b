"""A work queue for all keys.

Events come in bursts and hold nothing that the state does not: so they only name an object. A key that waits
is not queued twice, a key in work is not given to a second worker, and a failed one comes back later and
later, but never before its Retry-After. Work that takes long, as behind a slow webhook, frees its slot for
the next key: it blocks its own object only.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from footplate_contracts.backoff import backoff_seconds
from footplate_operator.errors import OperatorError

FIRST_RETRY_SECONDS: Final = 0.25
LONGEST_RETRY_SECONDS: Final = 60.0
LONG_SECONDS: Final = 0.5  # work that takes longer gives its place to another
_LEAST_SECONDS: Final = 0.001  # less may be over before a clock has moved
MOST_AT_ONCE: Final = 256  # pieces of work, those that gave their places away among them

KeyType = TypeVar("KeyType", bound=Hashable)
AnyKey = TypeVar("AnyKey", contravariant=True)
Work = Callable[[KeyType], Awaitable[None]]


def retry_delay(failures: int, chance: float) -> float:
    """Return seconds before the next try after `failures` in a row; `chance` in 0..1 jitters by ±25 %."""
    return backoff_seconds(
        failures, first=FIRST_RETRY_SECONDS, longest=LONGEST_RETRY_SECONDS, jitter=(0.75, 1.25), chance=chance
    )


class Queue(Protocol[AnyKey]):
    """Interface through which a reconciliation schedules later work."""

    def add(self, key: AnyKey) -> None:
        """Work on `key` as soon as possible."""

    def add_last(self, key: AnyKey) -> None:
        """Work on `key` when nothing else is to be done, or earlier if it is named before."""

    def add_after(self, key: AnyKey, seconds: float) -> None:
        """Work on `key` in `seconds`, or earlier if it is named before."""


@dataclass
class _Place:
    """A worker slot, which is released once."""

    places: asyncio.Semaphore
    given: bool = False

    def give_away(self) -> None:
        if not self.given:
            self.given = True
            self.places.release()


class WorkQueue(Generic[KeyType]):
    """Coalescing queue of keys. Its size is bounded by the number of objects, as no key is in it twice.

    `waited` receives the seconds for which a ready key was not worked on.
    """

    def __init__(self, chance: random.Random, waited: Callable[[float], None] = lambda seconds: None) -> None:
        self._chance = chance
        self._waited = waited
        self._ready: OrderedDict[KeyType, float] = OrderedDict()  # since when, by the loop's clock
        self._last: OrderedDict[KeyType, None] = OrderedDict()  # for when none is ready
        self._working: set[KeyType] = set()
        self._again: set[KeyType] = set()  # named while being worked on
        self._timers: dict[KeyType, asyncio.TimerHandle] = {}
        self._failures: dict[KeyType, int] = {}
        self._refused_until: dict[KeyType, float] = {}  # by the loop's clock
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._ready) + len(self._last)

    def add(self, key: KeyType) -> None:
        """Work on `key` as soon as possible."""
        if key in self._refused_until and (left := self._refused_for(key)) > 0:
            self.add_after(key, left)
            return
        self._cancel_timer(key)
        if key in self._working:
            self._again.add(key)
            return
        self._last.pop(key, None)
        self._ready.setdefault(key, asyncio.get_running_loop().time())
        self._wake.set()

    def add_last(self, key: KeyType) -> None:
        """Work on `key` when nothing else is to be done, or earlier if it is named before."""
        if key in self._refused_until and (left := self._refused_for(key)) > 0:
            self.add_after(key, left)
        elif key in self._working:
            self._again.add(key)  # what is being done may rest on what was before
        elif key not in self._ready:
            self._last[key] = None
            self._wake.set()

    def add_after(self, key: KeyType, seconds: float) -> None:
        """Work on `key` in `seconds`, or earlier if it is named before."""
        if seconds <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + max(seconds, _LEAST_SECONDS)
        known = self._timers.get(key)
        if known is not None and known.when() <= due:
            return
        self._cancel_timer(key)
        self._timers[key] = loop.call_at(due, self._timer_rang, key)

    async def run(self, workers: int, work: Work[KeyType]) -> None:
        """Work on up to `workers` keys at a time until cancelled; retry later after an exception of `work`.

        `work` logs what it raises: it knows the context.
        """
        places, most = asyncio.Semaphore(workers), asyncio.Semaphore(max(workers, MOST_AT_ONCE))
        async with asyncio.TaskGroup() as group:
            while True:
                await most.acquire()
                await places.acquire()
                key = await self._next()
                group.create_task(self._work_on(key, work, _Place(places))).add_done_callback(
                    lambda _: most.release()
                )

    async def _work_on(self, key: KeyType, work: Work[KeyType], place: _Place) -> None:
        overdue = asyncio.get_running_loop().call_later(LONG_SECONDS, place.give_away)
        failed, asked = True, 0.0
        try:
            await work(key)
            failed = False
        except OperatorError as error:
            asked = error.retry_after
        except Exception:  # noqa: BLE001 - the edge: one object's trouble must not stop the others
            pass
        finally:
            overdue.cancel()
            place.give_away()
            self._done(key, failed, asked)

    async def _next(self) -> KeyType:
        while not self._ready and not self._last:
            self._wake.clear()
            await self._wake.wait()
        if self._ready:
            key, since = self._ready.popitem(last=False)
            self._waited(asyncio.get_running_loop().time() - since)
        else:
            key, _ = self._last.popitem(last=False)
        self._working.add(key)
        return key

    def _done(self, key: KeyType, failed: bool, asked: float) -> None:
        """Finish `key`; `asked`: seconds for which the refusing side requests to wait."""
        self._working.discard(key)
        again = key in self._again
        self._again.discard(key)
        if failed:
            self._failures[key] = self._failures.get(key, 0) + 1
            # What happened meanwhile may be what was missing: it does not wait for a long retry.
            failures = 1 if again else self._failures[key]
            if asked > 0:
                self._refused_until[key] = asyncio.get_running_loop().time() + asked
            self.add_after(key, max(asked, retry_delay(failures, self._chance.random())))
            return
        self._failures.pop(key, None)
        if again:
            self.add(key)

    def _refused_for(self, key: KeyType) -> float:
        """Return the remaining seconds of the last refusal's Retry-After for `key`."""
        left = self._refused_until[key] - asyncio.get_running_loop().time()
        if left <= 0:
            del self._refused_until[key]
        return left

    def _timer_rang(self, key: KeyType) -> None:
        self._timers.pop(key, None)
        self.add(key)

    def _cancel_timer(self, key: KeyType) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
