"""Rows that must not be lost, kept until the coordinator says that they are durable."""

from __future__ import annotations

import threading
from collections import deque
from itertools import islice
from typing import Any, Final

from footplate_contracts.metrics import StepMetrics
from footplate_contracts.reports import CheckpointRecord, CheckpointRemoval, GenerationId, TelemetryItem
from footplate_elastic.protocol.unstored_rows import RowName

CAPACITY: Final = 200_000  # items, about 150 MB: days without a coordinator
CHUNK: Final = 500  # items a heartbeat


class Outbox:
    """A queue with sequences from 1; one that is full drops its oldest item. Thread-safe."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._items: deque[TelemetryItem] = deque()
        self._capacity = capacity
        self._sequence = 0
        self._received = 0  # by the coordinator that answered last
        self.overflowed = 0  # items dropped that nobody else had
        self.overflowed_told = 0  # of these, how many a coordinator has answered to
        self._lock = threading.Lock()

    def metrics(self, generation: GenerationId | None, row: StepMetrics) -> None:
        """Add a row of the metric history."""
        self._add(generation=generation, metrics=row)

    def checkpoint(self, generation: GenerationId | None, record: CheckpointRecord) -> None:
        """Add a durable checkpoint."""
        self._add(generation=generation, checkpoint=record)

    def removal(self, generation: GenerationId | None, removal: CheckpointRemoval) -> None:
        """Add that a durable checkpoint is gone."""
        self._add(generation=generation, removal=removal)

    def next(self, received: int) -> list[TelemetryItem]:
        """The oldest items above `received`, at most a heartbeat's worth."""
        with self._lock:
            if not self._items or self._sequence <= received:
                return []
            skip = max(0, received + 1 - self._items[0].sequence)
            return list(islice(self._items, skip, skip + CHUNK))

    def forget(self, acknowledged: int) -> RowName | None:
        """Everything up to `acknowledged` is durable; the last row among what was not yet known to be so."""
        last: RowName | None = None
        with self._lock:
            while self._items and self._items[0].sequence <= acknowledged:
                item = self._items.popleft()
                if item.metrics is not None and item.generation is not None:
                    last = RowName(item.generation, item.metrics.step)
        return last

    def answered(self, received: int, overflowed: int) -> None:
        """A coordinator that has items up to `received` has answered to so many `overflowed` ones."""
        with self._lock:
            self._received = received
            self.overflowed_told = max(self.overflowed_told, overflowed)

    def _add(self, **item: Any) -> None:
        with self._lock:
            if len(self._items) >= self._capacity:
                self.overflowed += self._items.popleft().sequence > self._received
            self._sequence += 1
            self._items.append(TelemetryItem(sequence=self._sequence, **item))

    @property
    def oldest(self) -> int:
        """The sequence of the first item kept, of the next one where none is."""
        with self._lock:
            return self._items[0].sequence if self._items else self._sequence + 1

    @property
    def sequence(self) -> int:
        """The sequence of the last item added."""
        return self._sequence
