"""Loop of a background task, which logs every error and retries: nobody would start the task again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from footplate_api.errors import ApiError, catch

log = logging.getLogger(__name__)


async def attempt(action: Callable[[], Awaitable[object]], name: str) -> Exception | None:
    """Run `action`; return its error, which is logged here unless it is an ApiError."""
    error = await catch(action)
    if error is not None and not isinstance(error, ApiError):
        log.error("%s failed", name, exc_info=error)
    return error


@dataclass
class Periodic:
    """Background task that calls `look` every `seconds`, or as soon as the seconds that it returns are over.

    `level` is that of the log line of an ApiError, such as a database that does not answer.
    """

    look: Callable[[], Awaitable[float | None]]
    seconds: float
    name: str
    level: int = logging.WARNING
    first_seconds: float = 0.0

    async def run(self) -> None:
        """Call `look` until cancelled, for the first time after `first_seconds`."""
        pause = self.first_seconds
        while True:
            await asyncio.sleep(pause)
            pause = await self._look()

    async def _look(self) -> float:
        """Call `look`; return the seconds until the next call."""
        pause: float | None = None

        async def look() -> None:
            nonlocal pause
            pause = await self.look()

        error = await attempt(look, self.name)
        if isinstance(error, ApiError):
            log.log(self.level, "%s is delayed: %s", self.name, error.detail)
        return self.seconds if pause is None else pause
