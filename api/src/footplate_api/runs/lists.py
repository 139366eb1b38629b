"""Lists of runs: the reader that each takes, and the price of those that look into many labels.

A selector may pass all runs without meeting one that it wants, and looks into the labels of each for every
requirement. Such a list costs its caller as many requests as it keeps a reader from others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import func, select

from footplate_api.database import Database
from footplate_api.errors import TooManyRequests
from footplate_api.identity.rates import Buckets
from footplate_api.labels.selector import Operator, Requirement
from footplate_api.models.run import Run
from footplate_api.runs import listing, service
from footplate_api.runs.listing import Within
from footplate_api.runs.schemas import RunList, RunQuery

LOOKS_A_REQUEST: Final = 10_000  # into labels: 5 ms of a core
COUNT_SECONDS: Final = 60.0


def looks(requirements: Sequence[Requirement]) -> int:
    """Return how many labels are looked at for each run that a list may pass.

    A list begins with the runs that have a certain label, where one is required: these an index finds.
    """
    first = next((asked for asked in requirements if asked.positive), None)
    return len(requirements) - (first is not None and first.operator is Operator.IN)


@dataclass
class Lists:
    """Lists of a process, for callers with these buckets of requests."""

    database: Database
    requests: Buckets
    clock: Callable[[], float]
    looks_a_request: float = LOOKS_A_REQUEST
    _runs: int = 0
    _counted_at: float = float("-inf")

    async def page(self, username: str, within: Within, query: RunQuery) -> RunList:
        """Return a page of the runs within these bounds; raises TooManyRequests."""
        requirements = [*listing.requirements(query)]
        if requirements:
            await self._charge(username, looks(requirements))
        async with self.database.read(quick=not requirements) as session:
            return await service.list_runs(session, within, query)

    async def _charge(self, username: str, labels: int) -> None:
        requests = labels * await self._count() / self.looks_a_request
        if requests < 1.0:
            return
        wait = self.requests.take(username, requests)
        if wait > 0.0:
            raise TooManyRequests.wait(
                f"labelSelector: looks at {labels} labels of {self._runs} runs, which counts as"
                f" {requests:.0f} requests of {username}, who has sent too many: require one label by = or in"
                " alone, or wait.",
                wait,
            )

    async def _count(self) -> int:
        if self.clock() - self._counted_at >= COUNT_SECONDS:
            async with self.database.read(quick=True) as session:
                self._runs = (await session.execute(select(func.count()).select_from(Run))).scalar_one()
            self._counted_at = self.clock()
        return self._runs
