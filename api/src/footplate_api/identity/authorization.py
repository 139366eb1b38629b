"""Rights of callers: Kubernetes' answers, cached for a short time.

A listing over all namespaces is one request, and as many reviews as there are namespaces. The reviews of all
callers share a concurrency limit, and a user has one such listing at a time: equal requests share its result.

Cached answers identify their caller by a digest: each request of a token with a hundred groups creates that
caller anew, and each answer would retain one of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterable
from typing import Final
from weakref import WeakValueDictionary

from footplate_api.errors import Forbidden
from footplate_api.identity.caller import LIST_EVERYWHERE, Caller, Right
from footplate_api.identity.review_cache import ReviewCache
from footplate_api.identity.reviews import Reviewer

AT_ONCE: Final = 16  # reviews of looks at all namespaces, for one caller and for all of them


class Authorization:
    """Rights of callers; `clock` returns monotonic seconds."""

    def __init__(self, reviewer: Reviewer, clock: Callable[[], float] = time.monotonic) -> None:
        self._reviewer = reviewer
        self._verdicts = ReviewCache[tuple[bytes, Right], bool](clock)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._looks: dict[tuple[Caller, frozenset[str]], asyncio.Task[frozenset[str]]] = {}
        self._users: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # one has many tokens

    async def is_allowed(self, caller: Caller, right: Right) -> bool:
        """Return whether `caller` has `right`; raises ClusterUnavailable or InstallationLacksRights."""
        return await self._verdicts.get(
            (_digest(caller), right), lambda: self._reviewer.is_allowed(caller, right)
        )

    async def require(self, caller: Caller, right: Right) -> None:
        """Raise Forbidden if `caller` lacks `right`: the same for what exists and what does not."""
        if not await self.is_allowed(caller, right):
            raise Forbidden(f"{caller.username} may not {right}.")

    async def listable_namespaces(self, caller: Caller, namespaces: Iterable[str]) -> frozenset[str] | None:
        """Return the `namespaces` whose runs `caller` may list; None: the runs of all there are."""
        if await self.is_allowed(caller, LIST_EVERYWHERE):
            return None
        key = caller, frozenset(namespaces)
        look = self._looks.get(key)
        if look is None:
            look = self._looks[key] = asyncio.create_task(self._look(*key))
            look.add_done_callback(lambda done: self._looked(key, done))
        return await asyncio.shield(look)  # others may wait for it, too

    def _looked(self, key: tuple[Caller, frozenset[str]], done: asyncio.Task[frozenset[str]]) -> None:
        del self._looks[key]
        if not done.cancelled():
            done.exception()  # whoever asked may have left

    async def _look(self, caller: Caller, namespaces: frozenset[str]) -> frozenset[str]:
        digest = _digest(caller)
        own = asyncio.Semaphore(AT_ONCE)  # or one look of many namespaces would be in the way of all others

        async def asked(namespace: str) -> str | None:
            right = Right("list", namespace=namespace)
            async with own:
                may = await self._verdicts.get((digest, right), lambda: self._in_turn(caller, right))
            return namespace if may else None

        async with self._users.setdefault(caller.username, asyncio.Lock()):
            asking = [asyncio.ensure_future(asked(namespace)) for namespace in namespaces]
            try:
                found = await asyncio.gather(*asking)
            finally:
                for question in asking:
                    question.cancel()
        return frozenset(namespace for namespace in found if namespace is not None)

    async def _in_turn(self, caller: Caller, right: Right) -> bool:
        async with self._turns:
            return await self._reviewer.is_allowed(caller, right)


def _digest(caller: Caller) -> bytes:
    """Return a digest that only equal callers share: repr() quotes every text within it."""
    return hashlib.sha256(repr(caller).encode()).digest()
