"""Queue of rows that must not be lost, stored until the coordinator reports them durable.

A step's samples are stored with its row, unless half of the capacity is used: rows come first. Entries are
stored as JSON: as a Python object a row takes up to six times the space.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from footplate_contracts.metrics import StepMetrics
from footplate_contracts.reports import CheckpointRecord, CheckpointRemoval, GenerationId, TelemetryItem
from footplate_contracts.samples import LoggedSample
from footplate_elastic.protocol.unstored_rows import RowKey

# Bytes, of a pod that has room for a model. A row is 200 to 700, with 64 further numbers up to 6,000: days at
# a step a second without a coordinator.
CAPACITY: Final = 150_000_000
ENTRY: Final = 64  # bytes that an item takes beside its JSON
CHUNK: Final = 500  # items a heartbeat
CHUNK_BYTES: Final = 2_000_000  # a heartbeat; with samples an item has up to 55,000


class Outbox:
    """A queue with sequence numbers from 1; when full it drops its oldest items. Thread-safe."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        """Create an empty queue of `capacity` bytes."""
        self._items: deque[bytes] = deque()  # their sequences follow one another
        self._capacity = capacity
        self._size = 0  # bytes, of all items
        self._sequence = 0
        self._received = 0  # by the coordinator that answered last
        self.overflowed = 0  # items dropped that nobody else had
        self.overflowed_told = 0  # of these, how many a coordinator has answered to
        self._lock = threading.Lock()

    def metrics(
        self, generation: GenerationId | None, row: StepMetrics, samples: Sequence[LoggedSample] = ()
    ) -> None:
        """Add a row of the metric history, with some samples of its step where there is room for these."""
        roomy = self._size <= self._capacity // 2
        self._add(generation=generation, metrics=row, samples=list(samples) if samples and roomy else None)

    def checkpoint(self, generation: GenerationId | None, record: CheckpointRecord) -> None:
        """Add a durable checkpoint."""
        self._add(generation=generation, checkpoint=record)

    def removal(self, generation: GenerationId | None, removal: CheckpointRemoval) -> None:
        """Add the removal of a durable checkpoint."""
        self._add(generation=generation, removal=removal)

    def pending_items(self, received: int) -> list[TelemetryItem]:
        """Return the oldest items above `received`, at most one heartbeat's worth."""
        with self._lock:
            if not self._items or self._sequence <= received:
                return []
            skip = max(0, received + 1 - self._oldest)
            texts = list(_fitting(islice(self._items, skip, skip + CHUNK)))
        return [TelemetryItem.model_validate_json(text) for text in texts]

    def acknowledge(self, acknowledged: int) -> RowKey | None:
        """Delete items up to `acknowledged`, which are durable; return the last metric row among them."""
        texts: list[bytes] = []
        with self._lock:
            while self._items and self._oldest <= acknowledged:
                texts.append(self._drop())
        for text in reversed(texts):
            item = TelemetryItem.model_validate_json(text)
            if item.metrics is not None and item.generation is not None:
                return RowKey(item.generation, item.metrics.step)
        return None

    def record_answer(self, received: int, overflowed: int) -> None:
        """Record an answer from a coordinator with items up to `received`, and its `overflowed` count."""
        with self._lock:
            self._received = received
            self.overflowed_told = max(self.overflowed_told, overflowed)

    def _add(self, **item: Any) -> None:
        with self._lock:
            added = TelemetryItem(sequence=self._sequence + 1, **item)
            text = added.model_dump_json(by_alias=True, exclude_none=True).encode()
            while self._items and self._size + len(text) + ENTRY > self._capacity:
                self.overflowed += self._oldest > self._received
                self._drop()
            self._sequence += 1
            self._items.append(text)
            self._size += len(text) + ENTRY

    def _drop(self) -> bytes:
        text = self._items.popleft()
        self._size -= len(text) + ENTRY
        return text

    @property
    def _oldest(self) -> int:
        return self._sequence + 1 - len(self._items)

    @property
    def oldest(self) -> int:
        """The sequence of the oldest stored item, or of the next one if the queue is empty."""
        with self._lock:
            return self._oldest

    @property
    def sequence(self) -> int:
        """The sequence of the last item added."""
        return self._sequence


def _fitting(texts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the first of `texts` that fit into a heartbeat; at least one."""
    size = 0
    for text in texts:
        size += len(text)
        if size > CHUNK_BYTES and size > len(text):
            return
        yield text
