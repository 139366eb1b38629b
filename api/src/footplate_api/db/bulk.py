"""Bulk inserts: many rows in one statement, the fastest way of each database.

SQLAlchemy's own bulk insert looks at every value of every row in Python: a fleet sends hundreds of thousands
a second, and most of the time would go there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Column, Table, text
from sqlalchemy.dialects import postgresql

from footplate_api.db.database import WriteSession


async def insert_missing(
    session: WriteSession, table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Insert `rows`, values in the order of `columns`; skip a row whose key exists."""
    if not rows:
        return
    connection = await session.connection()
    if connection.dialect.name == "postgresql":
        arrays = {f"a{place}": list(values) for place, values in enumerate(zip(*rows, strict=True))}
        await connection.execute(_from_arrays(table, tuple(columns)), arrays)
    else:
        await connection.exec_driver_sql(_one_by_one(table, tuple(columns)), list(rows))


@lru_cache
def _from_arrays(table: Table, columns: tuple[str, ...]) -> Any:
    """Return an INSERT with one array a column: a single plan, with as many parameters as columns."""
    arrays = ", ".join(
        f"CAST(:a{place} AS {_type(table.columns[name])}[])" for place, name in enumerate(columns)
    )
    into = f"INSERT INTO {table.name} ({', '.join(columns)})"
    return text(f"{into} SELECT * FROM unnest({arrays}) ON CONFLICT DO NOTHING")


def _type(column: Column[Any]) -> str:
    return column.type.compile(postgresql.dialect())  # type: ignore[no-untyped-call]  # has no annotations


@lru_cache
def _one_by_one(table: Table, columns: tuple[str, ...]) -> str:
    places = ", ".join("?" for _ in columns)
    return f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({places}) ON CONFLICT DO NOTHING"
