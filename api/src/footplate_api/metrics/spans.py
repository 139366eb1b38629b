"""Any number of step ranges, or of texts, as a table with which one statement can join."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, String, column, text
from sqlalchemy.ext.asyncio import AsyncSession

Span = tuple[int, int, int]
"""Segment, first and last step."""


def spans_of(session: AsyncSession, spans: Sequence[Span]) -> Any:
    """Return `spans` as a table (place, segment, low, high) from a constant number of SQL parameters."""
    if session.get_bind().dialect.name == "postgresql":
        source = text(
            "SELECT o AS place, s AS segment, l AS low, h AS high FROM unnest(CAST(:segments AS bigint[]),"
            " CAST(:lows AS bigint[]), CAST(:highs AS bigint[])) WITH ORDINALITY AS t(s, l, h, o)"
        ).bindparams(
            segments=[span[0] for span in spans],
            lows=[span[1] for span in spans],
            highs=[span[2] for span in spans],
        )
    else:
        source = text(
            "SELECT key AS place, value ->> 0 AS segment, value ->> 1 AS low, value ->> 2 AS high"
            " FROM json_each(:spans)"
        ).bindparams(spans=json.dumps(spans))
    names = ("place", "segment", "low", "high")
    return source.columns(*(column(name, BigInteger) for name in names)).cte("spans")


def texts_of(session: AsyncSession, texts: Sequence[str]) -> Any:
    """Return `texts` as a table (text): one SQL parameter, however many they are."""
    if session.get_bind().dialect.name == "postgresql":
        source = text("SELECT t AS text FROM unnest(CAST(:texts AS text[])) AS t").bindparams(
            texts=list(texts)
        )
    else:
        source = text("SELECT value AS text FROM json_each(:texts)").bindparams(texts=json.dumps(list(texts)))
    return source.columns(column("text", String)).cte("texts")
