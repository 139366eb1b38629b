"""Access to SQLite and PostgreSQL by sessions that declare whether they write.

SQLite needs help to behave: without it the driver begins transactions late and commits them early, and a
reader that turns writer fails at once instead of waiting. So this module begins transactions by hand, and a
writer takes its lock first.

Readers never wait for writers: they have connections of their own. This process's writers wait for each other
here, in order, and not within SQLite, which polls for its lock and lets chance decide.

A database that swallows packets answers nothing, not even that it is gone; so every access has a timeout.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NewType

from asyncpg import PostgresError  # type: ignore[import-untyped]  # ships no types
from sqlalchemy import QueuePool, make_url, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from footplate_api.db import postgresql, sqlite
from footplate_api.errors import DatabaseFull, DatabaseUnavailable

ReadSession = NewType("ReadSession", AsyncSession)
WriteSession = NewType("WriteSession", ReadSession)
"""A session that may write may read, not the other way round."""

# Of PostgreSQL, for all that one request asks. To give the connection up takes a second more, and callers
# are told within five.
ANSWER_SECONDS: Final = 2.0
PAGE_SECONDS: Final = 10.0  # for what is mirrored together
WORK_SECONDS: Final = 60.0  # for a bite of work in the background
_FULL_SQLSTATE: Final = "53100"  # disk_full


class Database:
    """Engines and sessions of a process, which has one such object."""

    def __init__(self, url: str) -> None:
        """Create the engines without connecting; raises ValueError for an impossible file."""
        self.engine, self._quick, self._writer = self.engines(url)
        self._turn = asyncio.Lock()  # of writers of SQLite
        self._full: str | None = None

    def engines(self, url: str) -> tuple[AsyncEngine, AsyncEngine, AsyncEngine]:
        """Return engines for readers, quick readers and writers; raises ValueError for an impossible file."""
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            return sqlite.engines(parsed)
        return postgresql.engines(parsed)

    @property
    def full(self) -> str | None:
        """Error of the last write, if there was no disk space; None since a later write stored something."""
        return self._full

    @asynccontextmanager
    async def read(self, seconds: float = ANSWER_SECONDS, quick: bool = False) -> AsyncIterator[ReadSession]:
        """Open a session that sees one state of the database and changes nothing.

        `seconds` are wall-clock time on PostgreSQL, and computing time on SQLite. A `quick` session is for
        reads of milliseconds, and waits for no longer ones.
        """
        engine = (self._quick if quick else self.engine).execution_options(**{sqlite.SECONDS: seconds})
        async with _translated(), self.timeout(seconds), AsyncSession(engine) as session:
            yield ReadSession(session)

    def timeout(self, seconds: float | None) -> asyncio.Timeout:
        """Return a timeout of `seconds`; None, or SQLite, means no timeout."""
        return asyncio.timeout(None if self.engine.dialect.name == "sqlite" else seconds)

    @asynccontextmanager
    async def write(self, seconds: float | None = ANSWER_SECONDS) -> AsyncIterator[WriteSession]:
        """Open a session whose work is committed when the block ends without an exception.

        `seconds` is a timeout on PostgreSQL; None: none. SQLite's own wait for its lock is bounded, and
        cannot be interrupted.
        """
        try:
            async with (
                _translated(),
                self._turn_of_writer(),
                self.timeout(seconds),
                AsyncSession(self._writer) as session,
                session.begin(),
            ):
                before = await self._changes(session)
                yield WriteSession(ReadSession(session))
                stored = await self._changes(session) != before
        except DatabaseFull as error:
            self._full = str(error.__cause__)
            raise
        if stored:
            self._full = None

    async def _changes(self, session: AsyncSession) -> object:
        """Return a value that differs after a change in `session`; None while the disk is not full."""
        if self._full is None:
            return None
        file = self.engine.dialect.name == "sqlite"
        asked = "total_changes()" if file else "CAST(pg_current_xact_id_if_assigned() AS text)"
        return await session.scalar(text(f"SELECT {asked}"))

    @asynccontextmanager
    async def _turn_of_writer(self) -> AsyncIterator[None]:
        if self.engine.dialect.name != "sqlite":
            yield
            return
        async with self._turn:
            yield

    @property
    def connections(self) -> tuple[int, int]:
        """Numbers of connections in use and idle."""
        pools = {engine.pool for engine in (self.engine, self._quick, self._writer)}
        counted = [pool for pool in pools if isinstance(pool, QueuePool)]
        return sum(pool.checkedout() for pool in counted), sum(pool.checkedin() for pool in counted)

    async def ping(self) -> None:
        """Query the database; raises DatabaseUnavailable if it does not answer."""
        async with self.read(quick=True) as session:
            await session.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()
        await self._quick.dispose()
        await self._writer.dispose()


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        yield
    except (DBAPIError, PoolTimeout, TimeoutError, OSError, PostgresError) as error:
        if is_disk_full(error):
            raise DatabaseFull("The database has no room left; nothing was stored.") from error
        if not is_unreachable(error):
            raise
        raise DatabaseUnavailable("The database does not answer; nothing was stored.") from error


def is_disk_full(error: Exception) -> bool:
    """Return whether `error` reports that the database's volume is full."""
    original = getattr(error, "orig", None)
    if getattr(original, "sqlite_errorname", None) in sqlite.FULL:
        return True
    return getattr(original, "sqlstate", None) == _FULL_SQLSTATE


def is_unreachable(error: Exception) -> bool:
    """Return whether `error` is about reaching the database, not about a statement."""
    if not isinstance(error, DBAPIError):
        return True  # no connection from the pool, or none to the server, or no answer in time
    if error.connection_invalidated:
        return True
    # SQLite calls mistakes in a statement operational, too; only the code tells them apart.
    statement = getattr(error.orig, "sqlite_errorname", None) == "SQLITE_ERROR"
    return isinstance(error, OperationalError | InterfaceError) and not statement
