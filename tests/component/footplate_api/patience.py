"""A database that is waited for longer than callers of the API would wait.

PostgreSQL beside three workers of pytest on two slow cores does not always answer within the two seconds
that it has; a test that is not about those seconds says nothing about them.
"""

from __future__ import annotations

import asyncio

from footplate_api.database import Database

TIMES = 15.0


class PatientDatabase(Database):
    """Has `TIMES` as many seconds to answer as the API gives it."""

    def patience(self, seconds: float | None) -> asyncio.Timeout:
        return super().patience(None if seconds is None else TIMES * seconds)
