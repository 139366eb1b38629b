"""What waits in the coordinator for the API, and who may forget what.

An agent keeps every row until it is durable; the coordinator keeps it until
the API has stored it. Two numbers per agent say how far each has come:
`received` (need not be sent again to this coordinator) and `acknowledged`
(stored by the API, may be forgotten). Where no API is configured, received
rows count as stored.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from footplate_contracts.names import WorkerId
from footplate_contracts.reports import (
    AgentIdentity,
    CheckpointRecord,
    CheckpointRemoval,
    GenerationId,
    GenerationRow,
    GivenUp,
    Heartbeat,
    TelemetryBatch,
    TelemetryItem,
)

CAPACITY: Final = 100_000  # rows; about 50 MB, reached after a day without an API at one step a second
BATCH: Final = 1000  # entries; 300 KB: below what proxies let through by default
VALUES: Final = 8  # further numbers of a row, which take as much room as the row itself


@dataclass(frozen=True)
class _Queued:
    worker: WorkerId  # sequences count within one incarnation
    sequence: int
    row: GenerationRow | None
    checkpoint: CheckpointRecord | None
    removal: CheckpointRemoval | None


@dataclass
class TelemetryBuffer:
    """A bounded queue in order of arrival."""

    keep: bool  # False: no API is configured
    capacity: int = CAPACITY
    checkpoint: CheckpointRecord | None = None  # the newest
    checkpoint_steps: tuple[int, ...] = ()  # of the last three, ascending
    _queue: deque[_Queued] = field(default_factory=deque)
    _received: dict[WorkerId, int] = field(default_factory=dict)
    _stored: dict[WorkerId, int] = field(default_factory=dict)
    _refused: int = 0  # entries that the API will never take
    # Of each agent, also of those that have ended: what its outbox had no room for, and what of that an
    # earlier coordinator has counted.
    _overflowed: dict[WorkerId, tuple[int, int]] = field(default_factory=dict)
    _told: GivenUp = field(default_factory=GivenUp)  # what the API knows of it

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def given_up(self) -> GivenUp:
        """What will never be in the history, since this coordinator began."""
        overflowed = sum(total - earlier for total, earlier in self._overflowed.values())
        return GivenUp(refused=self._refused, overflowed=overflowed)

    @property
    def waits(self) -> bool:
        """Whether there is anything that the API should know."""
        return bool(self._queue) or self.given_up != self._told

    @property
    def checkpoint_step(self) -> int | None:
        """Of the newest checkpoint."""
        return self.checkpoint.step if self.checkpoint else None

    def offer(
        self, agent: AgentIdentity, items: Sequence[TelemetryItem], oldest: int, fallback: GenerationId
    ) -> list[GenerationRow]:
        """Queue what is new; the rows that were taken.

        `oldest` is the first item that the agent still keeps. An agent that
        does not know yet that it speaks to another coordinator sends what
        follows upon what the one before received: that must not be taken, or
        the items between would count as stored. `fallback` is the generation
        of items that name none. A full queue takes nothing: the agent keeps
        it and sends it again.
        """
        key = agent.worker
        if items and key not in self._received and items[0].sequence > oldest:
            return []
        taken: list[GenerationRow] = []
        for item in items:
            last = self._received.get(key)
            if last is not None and item.sequence <= last:
                continue
            if len(self._queue) >= self.capacity:
                break
            if last is None:
                self._stored[key] = item.sequence - 1  # an earlier coordinator saw to those before
            self._received[key] = item.sequence
            row = None
            if item.metrics is not None:
                row = GenerationRow(generation=item.generation or fallback, metrics=item.metrics)
                taken.append(row)
            record = _named(item.checkpoint, item.generation)
            if record is not None:
                self._note(record)
            if self.keep:
                self._queue.append(_Queued(key, item.sequence, row, record, item.removal))
            else:
                self._stored[key] = item.sequence
        return taken

    def hear(self, word: Heartbeat) -> None:
        """Take over how many items the agent's outbox had no room for: a total that only grows."""
        total, earlier = self._overflowed.get(word.agent.worker, (word.overflowed_told, word.overflowed_told))
        self._overflowed[word.agent.worker] = max(total, word.overflowed), earlier

    def received(self, agent: AgentIdentity) -> int:
        """Highest sequence taken from this agent."""
        return self._received.get(agent.worker, 0)

    def acknowledged(self, agent: AgentIdentity) -> int:
        """Everything of this agent up to here is durable."""
        return self._stored.get(agent.worker, 0)

    def batch(self, run_uid: str, epoch: int, most: int = BATCH) -> tuple[TelemetryBatch, int] | None:
        """The oldest entries, at most `most`, and how many they are; None when nothing waits.

        None of them where only the counts of what is given up have grown.
        """
        if not self.waits:
            return None
        entries = list(_fitting(islice(self._queue, most)))
        batch = TelemetryBatch(
            run_uid=run_uid,
            epoch=epoch,
            rows=[entry.row for entry in entries if entry.row is not None],
            checkpoints=[entry.checkpoint for entry in entries if entry.checkpoint is not None],
            removals=[entry.removal for entry in entries if entry.removal is not None],
            given_up=self.given_up,
        )
        return batch, len(entries)

    def settle(self, count: int, told: GivenUp) -> None:
        """The API has the oldest `count` entries, and was `told` what is given up."""
        self._told = told
        self._forget(count)

    def give_up(self, count: int, told: GivenUp) -> None:
        """The API will never take the oldest `count` entries; of an empty batch, what it was `told`."""
        self._refused += count
        self._told = self._told if count else told
        self._forget(count)

    def _forget(self, count: int) -> None:
        for _ in range(count):
            entry = self._queue.popleft()
            self._stored[entry.worker] = entry.sequence

    def _note(self, record: CheckpointRecord) -> None:
        if self.checkpoint is None or _age(record) >= _age(self.checkpoint):
            self.checkpoint = record
        self.checkpoint_steps = tuple(sorted({*self.checkpoint_steps, record.step})[-3:])


def _fitting(entries: Iterable[_Queued]) -> Iterator[_Queued]:
    """The first of `entries` that are no larger than BATCH rows without further numbers; one at least."""
    size = 0
    for entry in entries:
        values = entry.row.metrics.values if entry.row is not None else None
        size += 1 + len(values or ()) // VALUES
        if size > BATCH:
            return
        yield entry


def _named(record: CheckpointRecord | None, generation: GenerationId | None) -> CheckpointRecord | None:
    """`record` with the generation that committed it, which an earlier trainer left to its agent to say."""
    if record is None or record.generation is not None or generation is None:
        return record
    return record.model_copy(update={"generation": generation})


def _age(record: CheckpointRecord) -> tuple[int, int, int]:
    """Grows with the step, and with the generation: clocks of two nodes may differ."""
    generation = record.generation
    return (record.step, generation.epoch, generation.number) if generation else (record.step, -1, -1)
