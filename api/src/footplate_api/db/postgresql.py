"""PostgreSQL engines, with connections that can be closed whatever they are doing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]  # ships no types
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

_CONNECT_SECONDS: Final = 3.0
_CLOSE_SECONDS: Final = 1.0  # for the server to take leave, and a statement back that was broken off


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # has no types
    """Connection whose executemany ends when it is cancelled.

    While the server accepts no more of the rows, the driver's own executemany waits for it, and mistakes a
    cancellation for the end of that wait: it continues to wait for an answer to what it has sent in part. The
    server waits for the rest, with all locks of the transaction, and neither ends.
    """

    async def executemany(self, command: str, args: Iterable[Any], *, timeout: float | None = None) -> None:
        """Call the driver's method; close the connection if cancelled."""
        sending = asyncio.ensure_future(super().executemany(command, args, timeout=timeout))
        try:
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            self.terminate()  # first: the answer that would be waited for comes no more
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            raise

    async def close(self, *, timeout: float | None = None) -> None:
        """Close with a short timeout; the driver waits longer, or for ever, for a silent server."""
        await super().close(timeout=_CLOSE_SECONDS)


def engines(url: URL) -> tuple[AsyncEngine, AsyncEngine, AsyncEngine]:
    """Return engines for readers, quick readers (the same engine), and writers."""
    readers = _engine(url, pool_size=5, max_overflow=5)
    return readers, readers, _engine(url, pool_size=3, max_overflow=2)


def _engine(url: URL, pool_size: int, max_overflow: int) -> AsyncEngine:
    connecting = {
        "timeout": _CONNECT_SECONDS,
        "connection_class": _Connection,
        # Compiling takes longer than any statement of ours that a planner may think worth it.
        "server_settings": {"jit": "off"},
    }
    return create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=max_overflow,
        pool_pre_ping=True,
        connect_args=connecting,
    )
