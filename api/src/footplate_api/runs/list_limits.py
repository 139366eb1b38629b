"""Lists of runs, with a rate limit for those that look at many labels.

A selector may pass over all runs without a match, and looks at each run's labels for every requirement. Such
a list costs its caller as many requests as other callers lose while it holds a reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import func, select

from footplate_api.db.database import Database
from footplate_api.errors import TooManyRequests
from footplate_api.identity.rate_limits import TokenBuckets
from footplate_api.labels.selector import Operator, Requirement
from footplate_api.models.run import RunRow
from footplate_api.runs import list_queries, service
from footplate_api.runs.list_queries import NamespaceFilter
from footplate_api.runs.schemas import RunList, RunQuery

LOOKS_A_REQUEST: Final = 10_000  # into labels: 5 ms of a core


def count_label_lookups(requirements: Sequence[Requirement]) -> int:
    """Return how many labels are looked at for each run that a list may pass.

    A list begins with the runs that have a certain label, if one is required: an index finds these.
    """
    first = next((asked for asked in requirements if asked.requires_key), None)
    return len(requirements) - (first is not None and first.operator is Operator.IN)


@dataclass
class RateLimitedLists:
    """Lists of a process, rate-limited by the callers' buckets of requests."""

    database: Database
    requests: TokenBuckets
    looks_a_request: float = LOOKS_A_REQUEST

    async def page(self, username: str, within: NamespaceFilter, query: RunQuery) -> RunList:
        """Return a page of the runs within these bounds; raises TooManyRequests."""
        requirements = [*list_queries.requirements(query)]
        if labels := count_label_lookups(requirements):
            await self._charge(username, labels)
        async with self.database.read(quick=not requirements) as session:
            return await service.list_runs(session, within, query)

    async def _charge(self, username: str, labels: int) -> None:
        async with self.database.read(quick=True) as session:
            runs = (await session.execute(select(func.count()).select_from(RunRow))).scalar_one()
        requests = labels * runs / self.looks_a_request
        wait = self.requests.take(username, requests) if requests >= 1.0 else 0.0
        if wait > 0.0:
            raise TooManyRequests.wait(
                f"labelSelector: reads {labels} labels of {runs} runs, as {requests:.0f} requests would, too"
                f" many for {username}; require one label by = or in alone, or wait.",
                wait,
            )
