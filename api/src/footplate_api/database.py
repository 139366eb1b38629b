"""One way to SQLite and PostgreSQL, with sessions that say whether they write.

SQLite needs help to behave: without it the driver begins transactions late and
commits them early, and a reader that turns writer fails at once instead of
waiting. So transactions are begun here by hand, and a writer takes its lock first.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NewType

from asyncpg import PostgresError  # type: ignore[import-untyped]  # ships no types
from sqlalchemy import Connection, Engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.util import await_only

from footplate_api.errors import DatabaseUnavailable

ReadSession = NewType("ReadSession", AsyncSession)
WriteSession = NewType("WriteSession", ReadSession)
"""What may write may read, not the other way round."""

BUSY_SECONDS: Final = 15  # a writer waits so long for the one before it
_ASK_AGAIN_SECONDS: Final = 0.02
_WRITES: Final = "footplate_writes"


class Database:
    """An engine and its sessions; one per process."""

    def __init__(self, url: str) -> None:
        """Opens nothing yet; raises ValueError for a file that cannot be."""
        self.engine = _engine(url)
        self._writer = self.engine.execution_options(**{_WRITES: True})

    @asynccontextmanager
    async def read(self) -> AsyncIterator[ReadSession]:
        """A session that sees one state of the database and leaves nothing behind."""
        async with _translated(), AsyncSession(self.engine) as session:
            yield ReadSession(session)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[WriteSession]:
        """A session whose work is committed when the block ends without an exception."""
        async with _translated(), AsyncSession(self._writer) as session, session.begin():
            yield WriteSession(ReadSession(session))

    async def ping(self) -> None:
        """Raises DatabaseUnavailable if the database does not answer."""
        async with self.read() as session:
            await session.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Closes all connections."""
        await self.engine.dispose()


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        yield
    except (DBAPIError, PoolTimeout, OSError, PostgresError) as error:
        if not unavailable(error):
            raise
        raise DatabaseUnavailable("The database does not answer; nothing was stored.") from error


def unavailable(error: Exception) -> bool:
    """Whether `error` is about the database being there, not about what was asked of it."""
    if not isinstance(error, DBAPIError):
        return True  # no connection from the pool, or none to the server
    if error.connection_invalidated:
        return True
    # SQLite calls mistakes in a statement operational, too; only the code tells them apart.
    statement = getattr(error.orig, "sqlite_errorname", None) == "SQLITE_ERROR"
    return isinstance(error, OperationalError | InterfaceError) and not statement


def _engine(url: str) -> AsyncEngine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_async_engine(parsed, pool_size=5, max_overflow=5, pool_pre_ping=True)
    if not parsed.database:
        raise ValueError("FOOTPLATE_DATABASE_URL names no file; sqlite:////data/footplate.db is such a URL")
    _make(Path(parsed.database).parent)
    engine = create_async_engine(
        parsed,
        pool_size=4,
        max_overflow=0,
        pool_use_lifo=True,
        connect_args={"timeout": BUSY_SECONDS, "isolation_level": None},
    )
    _tame_sqlite(engine.sync_engine)
    return engine


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"FOOTPLATE_DATABASE_URL: the folder {folder} cannot be made ({error.strerror}); name a file on a"
            " volume that this program may write to"
        ) from None


def _tame_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def settle(connection: Any, record: object) -> None:
        cursor = connection.cursor()
        _use_wal(cursor)
        # FULL: a commit survives a power cut, for the coordinator forgets what it has a receipt
        # for. The cache is 2 MiB a connection.
        for pragma in ("synchronous=FULL", "cache_size=-2048"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _use_wal(cursor: Any) -> None:
    """Readers never wait for the writer: the file's journal becomes a write-ahead log.

    The first switch needs the file for itself, and there SQLite says "locked" at
    once, whatever its timeout: replicas that start together have to ask again.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() >= deadline:
                raise
            await_only(asyncio.sleep(_ASK_AGAIN_SECONDS))
