"""Sort orders of run lists; pure.

Each has its indexes (models.run). None depends on a value that changes while a run trains, such as its step:
pages in such an order would skip runs and repeat others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final


class RunSort(StrEnum):
    """Sort orders; a minus means descending."""

    NEWEST = "-createdAt"
    OLDEST = "createdAt"
    NAME = "name"
    NAME_BACKWARDS = "-name"
    ENDED_LAST = "-endedAt"
    ENDED_FIRST = "endedAt"

    @property
    def descending(self) -> bool:
        """True if the largest value comes first."""
        return self.value.startswith("-")


@dataclass(frozen=True)
class Order:
    """Columns to sort by, and `index`, the suffix of their index's name."""

    index: str
    columns: Sequence[str]


_ORDERS: Final = {
    "createdAt": Order("by_creation", ("created_at", "uid")),
    "name": Order("by_name", ("name", "created_at", "uid")),
    "endedAt": Order("by_end", ("ended_at", "created_at", "uid")),
}


def order(sort: RunSort) -> Order:
    """Return the columns of `sort`, whatever its direction."""
    return _ORDERS[sort.value.removeprefix("-")]


@dataclass(frozen=True)
class CursorPosition:
    """Position of a page's last run: its values in the columns of the order."""

    values: tuple[datetime | str | None, ...]


@dataclass(frozen=True)
class ListSegment:
    """Part of a list that one index scan returns: all runs after a position, or all runs.

    `ended` limits it to ended runs, or to others; None: no limit. Databases do not agree on the position of
    NULL; here a run that has not ended sorts as if it ended after all others.
    """

    ended: bool | None
    after: CursorPosition | None


def split_list(sort: RunSort, after: CursorPosition | None) -> Sequence[ListSegment]:
    """Return the parts of the list after a position, in their order."""
    if order(sort).columns[0] != "ended_at":
        return (ListSegment(None, after),)
    first, last = (False, True) if sort.descending else (True, False)
    if after is None:
        return ListSegment(first, None), ListSegment(last, None)
    if (after.values[0] is not None) == first:
        return ListSegment(first, after), ListSegment(last, None)
    return (ListSegment(last, after),)
