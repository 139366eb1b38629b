"""A database that is waited for longer than callers of the API would wait, and that knows its statements.

PostgreSQL beside three workers of pytest on two slow cores does not always answer within the two seconds
that it has; a test that is not about those seconds says nothing about them.

An engine keeps the text of each statement that it was given: to write those anew is a third of what most
tests would do. So engines of a URL go from test to test, without connections.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from footplate_api.db.database import Database

TIMES = 15.0
_IDLE: Final[dict[str, list[tuple[AsyncEngine, AsyncEngine, AsyncEngine]]]] = defaultdict(
    list
)  # by their URL


class PatientDatabase(Database):
    """Has `TIMES` as many seconds to answer as the API gives it."""

    def engines(self, url: str) -> tuple[AsyncEngine, AsyncEngine, AsyncEngine]:
        """Those of an earlier test, where all databases that were opened at this URL are closed."""
        self._url = url
        return _IDLE[url].pop() if _IDLE[url] else super().engines(url)

    async def close(self) -> None:
        await super().close()
        if (engines := (self.engine, self._quick, self._writer)) not in _IDLE[
            self._url
        ]:  # it may be closed twice
            _IDLE[self._url].append(engines)

    def timeout(self, seconds: float | None) -> asyncio.Timeout:
        return super().timeout(None if seconds is None else TIMES * seconds)
