"""Answers of Kubernetes that are remembered for a while, and asked for once by all who wait for them.

A verdict is fresh for at most thirty seconds: for so long somebody whose right was taken away may still
have it here. While the API server does not answer, one that was good at its last asking goes on to be good
for some minutes, so that histories can be read meanwhile: there is nobody who could have told of a change.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from footplate_api.errors import ClusterUnavailable

FRESH_SECONDS: Final = 30.0
REFUSED_SECONDS: Final = 10.0  # whoever was just given a right should not wait long for it
STALE_SECONDS: Final = 15 * 60.0  # of a good one, while the API server is away
MOST: Final = 20_000  # verdicts, of some 300 bytes each

Key = TypeVar("Key", bound=Hashable)
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class _Verdict(Generic[Answer]):
    answer: Answer
    at: float
    until: float  # its subject ends: that of a token


class Verdicts(Generic[Key, Answer]):
    """Remembers answers by their question; whatever is false, such as None, is a refusal.

    `clock` gives seconds that never step.
    """

    def __init__(self, clock: Callable[[], float], most: int = MOST) -> None:
        self._clock = clock
        self._most = most
        self._known: OrderedDict[Key, _Verdict[Answer]] = OrderedDict()
        self._asked: dict[Key, asyncio.Task[Answer]] = {}

    async def of(self, key: Key, ask: Callable[[], Awaitable[Answer]], until: float = float("inf")) -> Answer:
        """The fresh answer to `key`, else what `ask` gives; raises what that raises.

        After `until` the answer is not used any more, whatever happens.
        """
        known = self._known.get(key)
        if known is not None and self._fresh(known):
            return known.answer
        task = self._asked.get(key)
        if task is None:
            task = self._asked[key] = asyncio.create_task(self._ask(key, ask, until))
            task.add_done_callback(lambda done: self._answered(key, done))
        try:
            return await asyncio.shield(task)  # another one may wait for it who is still there
        except ClusterUnavailable:
            if known is not None and self._stands(known):
                return known.answer
            raise

    def _answered(self, key: Key, done: asyncio.Task[Answer]) -> None:
        del self._asked[key]
        if not done.cancelled():
            done.exception()  # whoever asked may have left

    async def _ask(self, key: Key, ask: Callable[[], Awaitable[Answer]], until: float) -> Answer:
        answer = await ask()
        self._known[key] = _Verdict(answer, self._clock(), until)
        self._known.move_to_end(key)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return answer

    def _fresh(self, known: _Verdict[Answer]) -> bool:
        now = self._clock()
        return now < known.until and now - known.at < (FRESH_SECONDS if known.answer else REFUSED_SECONDS)

    def _stands(self, known: _Verdict[Answer]) -> bool:
        now = self._clock()
        return bool(known.answer) and now < known.until and now - known.at < STALE_SECONDS
