"""Telemetry that waits in the coordinator for the API, and its acknowledgements.

An agent stores every row until it is durable; the coordinator stores it until the API has it. Two numbers per
agent record how far each has come: `received` (need not be sent again to this coordinator) and `acknowledged`
(stored by the API, may be deleted). Where no API is configured, received rows count as stored.

Entries are stored as the JSON in which they will be sent: as a Python object a row takes up to six times the
space.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import Final

from footplate_contracts.base import WireMessage
from footplate_contracts.names import WorkerId
from footplate_contracts.rendezvous import AgentIdentity, Heartbeat
from footplate_contracts.reports import (
    CheckpointRecord,
    DroppedTelemetry,
    GenerationId,
    GenerationRow,
    TelemetryBatch,
    TelemetryItem,
)

# Bytes. The pod may have 512 MiB, and the rest of this process takes some 100: what a word of an agent takes
# while it is read is to fit as well. A row is 200 to 700 bytes, with 64 further numbers up to 6,000: days at
# a step a second without an API.
CAPACITY: Final = 200_000_000
ENTRY: Final = 200  # bytes that an entry takes beside its JSON
BATCH: Final = 1000  # entries
BATCH_BYTES: Final = 750_000  # below what proxies let through by default


class _Kind(Enum):
    """The list of a TelemetryBatch that an entry belongs to."""

    ROW = b"rows"
    CHECKPOINT = b"checkpoints"
    REMOVAL = b"removals"


@dataclass(frozen=True, slots=True)
class _Queued:
    worker: WorkerId  # sequences count within one incarnation
    sequence: int
    kind: _Kind | None  # None: nothing that this release knows
    text: bytes  # JSON

    @property
    def size(self) -> int:
        return len(self.text) + ENTRY


@dataclass(frozen=True)
class EncodedBatch:
    """The oldest `count` entries."""

    text: bytes  # a TelemetryBatch in JSON
    count: int
    given_up: DroppedTelemetry  # as it is told with them


@dataclass
class TelemetryBuffer:
    """A bounded queue in order of arrival."""

    keep: bool  # False: no API is configured
    capacity: int = CAPACITY  # bytes
    checkpoint: CheckpointRecord | None = None  # the newest
    checkpoint_steps: tuple[int, ...] = ()  # of the last three, ascending
    _queue: deque[_Queued] = field(default_factory=deque)
    _size: int = 0  # bytes, of all entries
    _received: dict[WorkerId, int] = field(default_factory=dict)
    _stored: dict[WorkerId, int] = field(default_factory=dict)
    _refused: int = 0  # entries that the API will never take, or that could not be read
    # Of each agent, also of those that have ended: what its outbox had no room for, and what of that an
    # earlier coordinator has counted.
    _overflowed: dict[WorkerId, tuple[int, int]] = field(default_factory=dict)
    _told: DroppedTelemetry = field(default_factory=DroppedTelemetry)  # what the API knows of it

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def given_up(self) -> DroppedTelemetry:
        """The counts of entries lost to the history since this coordinator began."""
        overflowed = sum(total - earlier for total, earlier in self._overflowed.values())
        return DroppedTelemetry(refused=self._refused, overflowed=overflowed)

    @property
    def has_pending(self) -> bool:
        """True if there is anything to send to the API."""
        return bool(self._queue) or self.given_up != self._told

    @property
    def checkpoint_step(self) -> int | None:
        """The step of the newest checkpoint."""
        return self.checkpoint.step if self.checkpoint else None

    def add_items(
        self, agent: AgentIdentity, items: Sequence[TelemetryItem], oldest: int, fallback: GenerationId
    ) -> list[GenerationRow]:
        """Queue new items; return the accepted rows.

        `oldest` is the first item that the agent still stores. An agent that does not know yet that it talks
        to another coordinator sends the items after those that the previous one received: they must not be
        accepted, or the items between would count as stored. `fallback` is the generation of items that name
        none. A full queue accepts nothing: the agent retains the items and sends them again.
        """
        key = agent.worker
        if items and key not in self._received and items[0].sequence > oldest:
            return []
        taken: list[GenerationRow] = []
        for item in items:
            last = self._received.get(key)
            if last is not None and item.sequence <= last:
                continue
            row = None
            if item.metrics is not None:
                row = GenerationRow(
                    generation=item.generation or fallback,
                    metrics=item.metrics,
                    # Rows come first: an outage that is long costs the samples of its later steps.
                    samples=item.samples if self._size <= self.capacity // 2 else None,
                )
            record = _named(item.checkpoint, item.generation)
            if self.keep:
                entry = _queued(key, item, row, record)
                if self._size + entry.size > self.capacity:
                    break
                self._queue.append(entry)
                self._size += entry.size
            if last is None:
                self._stored[key] = item.sequence - 1  # an earlier coordinator saw to those before
            self._received[key] = item.sequence
            if row is not None:
                taken.append(row)
            if record is not None:
                self._note(record)
            if not self.keep:
                self._stored[key] = item.sequence
                self._refused += item.is_unreadable
        return taken

    def update_overflow(self, word: Heartbeat) -> None:
        """Store how many items the agent's outbox had no room for: a total that only grows."""
        total, earlier = self._overflowed.get(word.agent.worker, (word.overflowed_told, word.overflowed_told))
        self._overflowed[word.agent.worker] = max(total, word.overflowed), earlier

    def received(self, agent: AgentIdentity) -> int:
        """Return the highest sequence received from this agent."""
        return self._received.get(agent.worker, 0)

    def acknowledged(self, agent: AgentIdentity) -> int:
        """Return the sequence up to which this agent's items are durable."""
        return self._stored.get(agent.worker, 0)

    def batch(self, run_uid: str, epoch: int, most: int = BATCH) -> EncodedBatch | None:
        """Return the oldest entries, at most `most`; None when nothing waits.

        The batch has no entries where only the counts of lost items have grown.
        """
        if not self.has_pending:
            return None
        entries, given_up = list(self._fitting(most)), self.given_up
        whole = TelemetryBatch(run_uid=run_uid, epoch=epoch, given_up=given_up)
        lists = {kind.value.decode() for kind in _Kind}
        parts = [whole.model_dump_json(by_alias=True, exclude=lists)[:-1].encode()]
        for kind in _Kind:
            texts = b",".join(entry.text for entry in entries if entry.kind is kind)
            parts.append(b',"%s":[%s]' % (kind.value, texts))
        return EncodedBatch(b"".join([*parts, b"}"]), len(entries), given_up)

    def mark_stored(self, count: int, told: DroppedTelemetry) -> None:
        """Delete the oldest `count` entries, which the API has stored with the `told` lost counts."""
        self._told = told
        self._refused += sum(entry.kind is None for entry in self._forget(count))

    def drop_refused(self, count: int, told: DroppedTelemetry) -> None:
        """Drop the oldest `count` entries, which the API refuses; of an empty batch, note `told`."""
        self._refused += count
        self._told = self._told if count else told
        self._forget(count)

    def _forget(self, count: int) -> list[_Queued]:
        """Remove the oldest `count` entries, which need not be stored any longer."""
        gone = [self._queue.popleft() for _ in range(count)]
        for entry in gone:
            self._size -= entry.size
            self._stored[entry.worker] = entry.sequence
        return gone

    def _fitting(self, most: int) -> Iterator[_Queued]:
        """Yield the first entries that fit into a batch; at least one."""
        size = 0
        for entry in islice(self._queue, most):
            if size and size + len(entry.text) > BATCH_BYTES:
                return
            size += len(entry.text)
            yield entry

    def _note(self, record: CheckpointRecord) -> None:
        if self.checkpoint is None or _age(record) >= _age(self.checkpoint):
            self.checkpoint = record
        self.checkpoint_steps = tuple(sorted({*self.checkpoint_steps, record.step})[-3:])


def _queued(
    worker: WorkerId, item: TelemetryItem, row: GenerationRow | None, record: CheckpointRecord | None
) -> _Queued:
    """Return `item` as a queue entry: its content is `row` or `record`, if it is one of these."""
    known: tuple[tuple[_Kind, WireMessage | None], ...] = (
        (_Kind.ROW, row),
        (_Kind.CHECKPOINT, record),
        (_Kind.REMOVAL, item.removal),
    )
    for kind, held in known:
        if held is not None:
            text = held.model_dump_json(by_alias=True, exclude_none=True)  # unlike json.dumps, quotes NaN
            return _Queued(worker, item.sequence, kind, text.encode())
    return _Queued(worker, item.sequence, None, b"")


def _named(record: CheckpointRecord | None, generation: GenerationId | None) -> CheckpointRecord | None:
    """Return `record` with its generation, which earlier trainers left for their agent to report."""
    if record is None or record.generation is not None or generation is None:
        return record
    return record.model_copy(update={"generation": generation})


def _age(record: CheckpointRecord) -> tuple[int, int, int]:
    """Return a sort key by step, then generation: clocks of two nodes may differ."""
    generation = record.generation
    return (record.step, generation.epoch, generation.number) if generation else (record.step, -1, -1)
