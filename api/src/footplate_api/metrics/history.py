"""Which rows are kept, and which are shown; pure."""

from __future__ import annotations

from collections.abc import Iterable

from footplate_contracts.reports import GenerationRow


def newest(rows: Iterable[GenerationRow]) -> list[GenerationRow]:
    """One row a step, in order of steps: that of the newest generation.

    The database applies the same rule between batches; within one it could not, as
    PostgreSQL refuses to touch a row twice in one statement.
    """
    kept: dict[int, GenerationRow] = {}
    for row in rows:
        known = kept.get(row.metrics.step)
        if known is None or row.generation.newer_than(known.generation):
            kept[row.metrics.step] = row
    return [kept[step] for step in sorted(kept)]


def stride(first: int, last: int, limit: int) -> int:
    """The smallest `every` for which steps first..last give at most `limit` rows.

    Shown are the multiples of `every`, and the last step whether it is one or not.

    >>> stride(1, 300, 5000), stride(0, 99_999, 5000)
    (1, 21)
    """
    steps = last - first + 1
    if steps <= limit:
        return 1
    # At most span // every + 1 multiples lie in a span, plus the last step.
    return -(-steps // max(limit - 2, 1))
