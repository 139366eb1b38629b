"""Cache of Kubernetes' answers; all requests that wait for the same answer share one question.

An answer is fresh for at most thirty seconds: for so long a user whose right was revoked may still have it
here. While the API server does not answer, an answer that was positive last time stays valid for some
minutes, so that histories can be read meanwhile: without the API server nobody could have reported a change.
One request, not each of them, waits for an API server that accepts the question and does not answer.

Refusals are cached apart: a caller that is refused a thousand times takes no room from others. Answers that
are too old for any use are deleted with the next answer.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeVar

from footplate_api.errors import ClusterUnavailable, TooManyTokens

FRESH_SECONDS: Final = 30.0
REFUSED_SECONDS: Final = 10.0  # whoever was just given a right should not wait long for it
STALE_SECONDS: Final = 15 * 60.0  # of a good one, while the API server is away
# Where there is a good one of before:
CACHED_TIMEOUT_SECONDS: Final = 2.0  # for an answer
RETRY_SECONDS: Final = 5.0  # after a question that nobody answered, until one is waited for again
MOST: Final = 20_000  # good ones, of some 500 bytes each; that of a token has its owner besides
MOST_REFUSED: Final = 10_000

Key = TypeVar("Key", bound=Hashable)
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class _Verdict(Generic[Answer]):
    answer: Answer
    at: float
    until: float  # its subject ends: that of a token
    tried: float = float("-inf")  # when it was asked for again in vain


@dataclass(frozen=True)
class _Question(Generic[Answer]):
    task: asyncio.Task[Answer]
    since: float


class ReviewCache(Generic[Key, Answer]):
    """Cache of answers by their question; a false answer, such as None, is a refusal.

    `clock` returns monotonic seconds; `most` limits the cached positive answers, `refused` the refusals, and
    `timeout` in seconds holds if an earlier positive answer exists.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        most: int = MOST,
        refused: int = MOST_REFUSED,
        timeout: float = CACHED_TIMEOUT_SECONDS,
    ) -> None:
        self._clock = clock
        self._timeout = timeout
        self._most = {True: most, False: refused}
        self._known: dict[bool, OrderedDict[Key, _Verdict[Answer]]] = {
            True: OrderedDict(),
            False: OrderedDict(),
        }
        self._asked: dict[Key, _Question[Answer]] = {}
        self._missed = float("-inf")  # when nobody answered a question for which a good verdict stood in

    async def get(
        self, key: Key, ask: Callable[[], Awaitable[Answer]], until: float = float("inf")
    ) -> Answer:
        """Return the fresh answer to `key`, else what `ask` returns; raises what that raises.

        While the API server does not answer, an earlier positive answer is returned. After `until` the answer
        is never used.
        """
        known = self._verdict(key)
        if known is not None and self._fresh(known):
            return known.answer
        if known is None or not self._stands(known):
            return await asyncio.shield(self._question(key, ask, until).task)  # others may wait for it, too
        if self._clock() - known.tried < RETRY_SECONDS:
            return known.answer
        question = self._question(key, ask, until)
        if self._clock() - self._missed < RETRY_SECONDS:
            return known.answer  # what comes of the question counts from the next time on
        left = question.since + self._timeout - self._clock()
        answered, _ = await asyncio.wait({question.task}, timeout=max(left, 0.0))
        failure = question.task.exception() if answered else None
        if answered and not isinstance(failure, ClusterUnavailable):
            return question.task.result()
        if not isinstance(failure, TooManyTokens):  # which says nothing of the API server
            self._missed = self._clock()
        if not self._stands(known):
            return await asyncio.shield(question.task)
        return known.answer

    def has_usable(self, key: Key) -> bool:
        """Return whether a positive answer to `key` exists for while the API server is unavailable."""
        known = self._known[True].get(key)
        return known is not None and self._stands(known)

    def __len__(self) -> int:
        return sum(len(found) for found in self._known.values())

    def _verdict(self, key: Key) -> _Verdict[Answer] | None:
        return self._known[True].get(key) or self._known[False].get(key)

    def _question(self, key: Key, ask: Callable[[], Awaitable[Answer]], until: float) -> _Question[Answer]:
        question = self._asked.get(key)
        if question is None:
            task = asyncio.create_task(self._ask(key, ask, until))
            question = self._asked[key] = _Question(task, self._clock())
            task.add_done_callback(lambda done: self._answered(key, done))
        return question

    def _answered(self, key: Key, done: asyncio.Task[Answer]) -> None:
        del self._asked[key]
        known = self._known[True].get(key)
        if not done.cancelled() and done.exception() is not None and known is not None:
            self._known[True][key] = replace(known, tried=self._clock())

    async def _ask(self, key: Key, ask: Callable[[], Awaitable[Answer]], until: float) -> Answer:
        answer = await ask()
        self._missed = float("-inf")
        good = bool(answer)
        self._known[not good].pop(key, None)
        found = self._known[good]
        found[key] = _Verdict(answer, self._clock(), until)
        found.move_to_end(key)
        while len(found) > self._most[good]:
            found.popitem(last=False)
        self._forget()
        return answer

    def _forget(self) -> None:
        """Delete the answers that are too old; the oldest come first."""
        now = self._clock()
        for good, seconds in ((True, STALE_SECONDS), (False, REFUSED_SECONDS)):
            found = self._known[good]
            while found and now - next(iter(found.values())).at >= seconds:
                found.popitem(last=False)

    def _fresh(self, known: _Verdict[Answer]) -> bool:
        now = self._clock()
        return now < known.until and now - known.at < (FRESH_SECONDS if known.answer else REFUSED_SECONDS)

    def _stands(self, known: _Verdict[Answer]) -> bool:
        now = self._clock()
        return bool(known.answer) and now < known.until and now - known.at < STALE_SECONDS
