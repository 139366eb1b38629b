"""What callers may do: Kubernetes' word, remembered for a little while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final

from footplate_api.errors import Forbidden
from footplate_api.identity.caller import LIST_EVERYWHERE, Caller, Right
from footplate_api.identity.reviewing import Reviewer
from footplate_api.identity.verdicts import Verdicts

AT_ONCE: Final = 16  # reviews for one caller


class Authorization:
    """The rights of callers; `clock` gives seconds that never step."""

    def __init__(self, reviewer: Reviewer, clock: Callable[[], float] = time.monotonic) -> None:
        self._reviewer = reviewer
        self._verdicts = Verdicts[tuple[Caller, Right], bool](clock)

    async def allowed(self, caller: Caller, right: Right) -> bool:
        """Whether `caller` has `right`; raises ClusterUnavailable or InstallationLacksRights."""
        return await self._verdicts.of((caller, right), lambda: self._reviewer.allowed(caller, right))

    async def demand(self, caller: Caller, right: Right) -> None:
        """Raises Forbidden where `caller` has not `right`: the same for what exists and what does not."""
        if not await self.allowed(caller, right):
            raise Forbidden(f"{caller.username} may not {right}.")

    async def listable(self, caller: Caller, namespaces: Iterable[str]) -> frozenset[str] | None:
        """Those of `namespaces` whose runs `caller` may list; None: the runs of all there are."""
        if await self.allowed(caller, LIST_EVERYWHERE):
            return None
        turn = asyncio.Semaphore(AT_ONCE)

        async def asked(namespace: str) -> str | None:
            async with turn:
                return namespace if await self.allowed(caller, Right("list", namespace=namespace)) else None

        found = await asyncio.gather(*map(asked, namespaces))
        return frozenset(namespace for namespace in found if namespace is not None)
