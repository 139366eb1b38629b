"""SQLite engines for a server: a write-ahead log, and transactions that lock at their start if they write."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import time
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, event
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import await_only

BUSY_SECONDS: Final = 15  # a writer waits so long for one of another process
READERS: Final = 4
QUICK_READERS: Final = 2  # for what takes milliseconds, and should not wait for what takes seconds
SECONDS: Final = "footplate_seconds"  # an execution option: how long statements of a transaction may compute
_STEPS: Final = 500_000  # of SQLite's virtual machine between two looks at the clock: some 20 ms
FULL: Final = frozenset({"SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"})  # names of errors: the volume has no room
_ASK_AGAIN_SECONDS: Final = 0.02


class _Compiler(SQLiteCompiler):
    """SQL compiler that writes a table's hints after its name, as `INDEXED BY` needs; SQLAlchemy has none."""

    def get_from_hint_text(self, table: Any, text: str | None) -> str | None:
        """Return the hint unchanged."""
        return text


class _Connection(sqlite3.Connection):
    """Connection that interrupts statements after their time limit, and rolls back when it is closed.

    SQLite ends a transaction only once the last of its statements is gone, too. A cancelled task's traceback
    may hold a statement until the garbage collector runs, and every other writer would wait for that.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.allow(math.inf)
        self.set_progress_handler(self._is_over, _STEPS)

    def allow(self, seconds: float) -> None:
        """Interrupt further statements once they have computed for `seconds`."""
        self._allowed, self._end = seconds, math.inf

    def _is_over(self) -> bool:
        spent = time.thread_time()  # which a busy host does not spend
        self._end = min(self._end, spent + self._allowed)
        return spent > self._end

    def close(self) -> None:
        """Roll back the open transaction, and close."""
        self.set_progress_handler(None, 0)  # which refers to this object
        self.rollback()
        super().close()


def engines(url: URL) -> tuple[AsyncEngine, AsyncEngine, AsyncEngine]:
    """Return engines for readers, quick readers and writers; raises ValueError for an impossible file."""
    if not url.database:
        raise ValueError("FOOTPLATE_DATABASE_URL names no file; a valid URL is sqlite:////data/footplate.db")
    _make(Path(url.database).parent)
    readers, quick = _engine(url, READERS, "BEGIN"), _engine(url, QUICK_READERS, "BEGIN")
    return readers, quick, _engine(url, 1, "BEGIN IMMEDIATE")


def _engine(url: URL, connections: int, begin: str) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_use_lifo=True,
        connect_args={"timeout": BUSY_SECONDS, "isolation_level": None, "factory": _Connection},
    )
    engine.dialect.statement_compiler = _Compiler
    _tame(engine.sync_engine, begin)
    return engine


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"FOOTPLATE_DATABASE_URL: the folder {folder} cannot be created ({error.strerror}); name a file"
            " on a volume that this program may write to"
        ) from None


def _tame(engine: Engine, begin: str) -> None:
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
    def start(connection: Connection) -> None:
        opened: Any = connection.connection.driver_connection
        opened._conn.allow(connection.get_execution_options().get(SECONDS, math.inf))
        connection.exec_driver_sql(begin)


def _use_wal(cursor: Any) -> None:
    """Switch the file's journal to a write-ahead log, so that readers never wait for the writer.

    The first switch needs the file for itself, and there SQLite fails with "locked" at
    once, whatever its timeout: replicas that start together have to retry.
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
