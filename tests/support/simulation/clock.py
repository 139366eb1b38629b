"""Virtual time as a moment."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final

BEGIN: Final = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


class Clock:
    """The moment that the virtual loop has come to."""

    def __call__(self) -> datetime:
        return BEGIN + timedelta(seconds=asyncio.get_running_loop().time())
