"""Compact columns of a history while it is read, and their JSON, one after another; no IO.

A row that is an object, of objects, takes many times what its numbers take. So rows are split into columns
batch by batch, and a column that not every row has stores the indexes of its rows.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, MutableSequence, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic_core import to_json

from footplate_api.metrics import packed_values
from footplate_api.metrics.schemas import GENERATION, SHOWN
from footplate_contracts.metrics import MetricColumn, Scalar

_CODES: Final[dict[Scalar, str]] = {float: "d", int: "q"}


def _empty(kind: Scalar) -> MutableSequence[Any]:
    return array(_CODES[kind]) if kind in _CODES else []


@dataclass
class _Sparse:
    """Values of some rows, each with the index of its row."""

    values: MutableSequence[Any]
    places: array[int] = field(default_factory=lambda: array("I"))

    def add(self, found: Sequence[Any], begin: int) -> None:
        """Append `found` from the row at `begin` on; None if a row has no value."""
        missing = found.count(None)
        if missing == 0:
            self.values.extend(found)
            self.places.extend(range(begin, begin + len(found)))
        elif missing < len(found):
            for place, value in enumerate(found, begin):
                if value is not None:
                    self.put(place, value)

    def put(self, place: int, value: Any) -> None:
        self.values.append(value)
        self.places.append(place)

    def cut(self, rows: int) -> None:
        """Delete the values of rows from index `rows` on."""
        count = bisect_left(self.places, rows)
        del self.values[count:], self.places[count:]

    def dense(self, rows: int) -> list[Any]:
        """Return a value or None for each of `rows` rows."""
        if len(self.places) == rows:
            return list(self.values)
        found: list[Any] = [None] * rows
        for place, value in zip(self.places, self.values, strict=True):
            found[place] = value
        return found


class HistoryColumns:
    """Rows of a history, in order of steps, by columns.

    `asked` are columns of the rows; `names` those of further numbers, by their number; `generations` the
    text of each segment's, None if it is not requested.
    """

    def __init__(
        self, asked: Sequence[MetricColumn], names: Mapping[int, str], generations: Mapping[int, str] | None
    ) -> None:
        self._asked, self._names, self._generations = asked, names, generations
        self._steps, self._segments = array("q"), array("q")
        self._dense = {column.name: _empty(column.type) for column in asked if not column.optional}
        self._sparse = {column.name: _Sparse(_empty(column.type)) for column in asked if column.optional}
        self._further = {number: _Sparse(array("d")) for number in names}

    @property
    def column_names(self) -> list[str]:
        """Names of the columns that are read."""
        return [column.name for column in self._asked] + ["further"] * bool(self._names)

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def steps(self) -> Sequence[int]:
        """Steps of the rows."""
        return self._steps

    @property
    def cells(self) -> int:
        """Number of rows times the number of columns that occur."""
        return len(self) * (self._always + sum(1 for _ in self._firsts()))

    @property
    def _always(self) -> int:
        return 1 + (self._generations is not None) + len(self._dense)

    def _firsts(self) -> Iterator[int]:
        """Yield the first row of each optional column that occurs."""
        for known in (*self._sparse.values(), *self._further.values()):
            if known.places:
                yield known.places[0]

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        """Append the rows that follow: segment, step, and a value of each column in `asked`."""
        if not rows:
            return
        begin = len(self)
        segments, steps, *values = zip(*rows, strict=True)
        self._segments.extend(segments)
        self._steps.extend(steps)
        for column, found in zip(self._asked, values, strict=False):
            if column.optional:
                self._sparse[column.name].add(found, begin)
            else:
                self._dense[column.name].extend(_numbers(found))
        if self._names:
            self._add_further(values[-1], begin)

    def _add_further(self, packed: Sequence[bytes | None], begin: int) -> None:
        for place, numbers in enumerate(packed, begin):
            for number, value in packed_values.unpack(numbers).items() if numbers else ():
                if number in self._further:
                    self._further[number].put(place, value)

    def fit(self, cells: int) -> bool:
        """Delete the last rows until at most `cells` cells are left; return whether there were more.

        Rows of one step stay together, and those of the first step stay in any case.
        """
        if self.cells <= cells:
            return False
        whole = len(self)
        rows = self._fitting(cells)
        while rows > 0 and self._steps[rows - 1] == self._steps[rows]:
            rows -= 1
        if rows == 0:
            rows = next((row for row in range(whole) if self._steps[row] != self._steps[0]), whole)
        for dense in (self._steps, self._segments, *self._dense.values()):
            del dense[rows:]
        for sparse in (*self._sparse.values(), *self._further.values()):
            sparse.cut(rows)
        return rows < whole

    def _fitting(self, cells: int) -> int:
        """Return how many rows have at most `cells` cells; fewer than there are."""
        columns, most = self._always, cells // self._always
        for first in sorted(self._firsts()):  # from the row at `first` on there is a column more
            if most <= first:
                break
            columns += 1
            most = max(first, cells // columns)
        return most

    def json(self, head: bytes) -> bytes:
        """Return a JSON object of the fields in `head` and of the columns, which are released."""
        parts = [head[:-1]]
        for column in SHOWN:
            if (values := self._taken(column)) is not None:
                parts += [b',"', column.alias.encode(), b'":', _json(values)]
        begin = b',"values":{'
        for number, name in self._names.items():
            known = self._further.pop(number, None)
            if known is not None and known.places:
                parts += [begin, to_json(name), b":", _json(known.dense(len(self)))]
                begin = b","
        parts.append(b"}}" if begin == b"," else b"}")
        return b"".join(parts)

    def _taken(self, column: MetricColumn) -> list[Any] | None:
        if column is GENERATION:
            return (
                None if self._generations is None else [self._generations[known] for known in self._segments]
            )
        if not column.optional:
            return list(self._dense.pop(column.name)) if column.name in self._dense else None
        known = self._sparse.pop(column.name, None)
        return known.dense(len(self)) if known is not None and known.places else None


def _numbers(found: Sequence[Any]) -> Iterable[Any]:
    return found if None not in found else (math.nan if value is None else value for value in found)


def _json(values: Sequence[Any]) -> bytes:
    return to_json(values, inf_nan_mode="strings")
