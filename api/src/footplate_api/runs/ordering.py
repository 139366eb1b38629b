"""The orders in which lists of runs can be had; pure.

Each has indexes that give it (models.run). None is by what changes while a run trains, such as its
step: pages of a list in such an order would skip runs and repeat others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final


class Sort(StrEnum):
    """What comes first; a minus turns an order around."""

    NEWEST = "-createdAt"
    OLDEST = "createdAt"
    NAME = "name"
    NAME_BACKWARDS = "-name"
    ENDED_LAST = "-endedAt"
    ENDED_FIRST = "endedAt"

    @property
    def descending(self) -> bool:
        """Whether the largest comes first."""
        return self.value.startswith("-")


@dataclass(frozen=True)
class Order:
    """Columns, of equal ones the next one decides; `index` is the end of the name of what gives it."""

    index: str
    columns: Sequence[str]


_ORDERS: Final = {
    "createdAt": Order("by_creation", ("created_at", "uid")),
    "name": Order("by_name", ("name", "created_at", "uid")),
    "endedAt": Order("by_end", ("ended_at", "created_at", "uid")),
}


def order(sort: Sort) -> Order:
    """What `sort` means, in either direction."""
    return _ORDERS[sort.value.removeprefix("-")]


@dataclass(frozen=True)
class Position:
    """The last run of a page: its values of the columns of the order."""

    values: tuple[datetime | str | None, ...]


@dataclass(frozen=True)
class Leg:
    """A part of a list that an index gives as a whole: all runs after a position, or all of them.

    `ended` says which ones: None where that does not matter. Databases do not agree on where what is
    absent comes; here a run that has not ended comes where one would that ends after all others.
    """

    ended: bool | None
    after: Position | None


def legs(sort: Sort, after: Position | None) -> Sequence[Leg]:
    """The parts of the list after a position, in their order."""
    if order(sort).columns[0] != "ended_at":
        return (Leg(None, after),)
    first, last = (False, True) if sort.descending else (True, False)
    if after is None:
        return Leg(first, None), Leg(last, None)
    if (after.values[0] is not None) == first:
        return Leg(first, after), Leg(last, None)
    return (Leg(last, after),)
