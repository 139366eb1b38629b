"""Copies the state into the memory of this node and the next one every few steps, and restores it from there.

All ranks take part in every collective here, in a process group of its own, so that these messages never
interleave with those of training or of durable checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from footplate_contracts.reports import GenerationId
from footplate_trainer.background import OneInFlight
from footplate_trainer.checkpoint.layout import GenerationStart
from footplate_trainer.checkpoint.memory.copies import CopyShard, MemoryCopy, newest_complete, transfers
from footplate_trainer.checkpoint.memory.folder import MemoryFolder
from footplate_trainer.checkpoint.memory.layout import (
    ShardHeader,
    fill_tensors_from_file,
    pack_into,
    padded_header_size,
)
from footplate_trainer.checkpoint.training_state import TrainingState
from footplate_trainer.parallel import object_collectives
from footplate_trainer.parallel.world import DistributedContext


@dataclass(frozen=True)
class RestorePlan:
    """The newest complete copy, and the transfers between ranks that restore it."""

    copy: MemoryCopy
    transfers: list[tuple[int, int]]


@dataclass
class MemoryCopies:
    """Copies of this rank's state, at most one in transfer to the partner; the next one waits for it."""

    folder: MemoryFolder
    tensors: Mapping[str, Tensor]  # this rank's parts of the state; the memory is the live one
    world: DistributedContext
    ranks_per_node: int
    generation: GenerationId
    every_steps: int
    warn: Callable[[str], None]

    def __post_init__(self) -> None:
        """Create the process group. Collective."""
        group = dist.new_group(backend="gloo")
        assert isinstance(group, dist.ProcessGroup), "this rank is in every group that all ranks make"
        self._group = group
        self._to = (self.world.rank + self.ranks_per_node) % self.world.size
        self._from = (self.world.rank - self.ranks_per_node) % self.world.size
        self._exchanging = OneInFlight("footplate-mirror")
        self._sending = OneInFlight("footplate-mirror-send")

    def is_due(self, step: int) -> bool:
        """Return whether a copy is due after `step`."""
        return step % self.every_steps == 0

    def copy(self, state: TrainingState) -> None:
        """Copy this rank's shard into memory, and begin to send it to the partner. Collective."""
        self.finish()
        copy = MemoryCopy.of(state.step, self.generation, self.world.size)
        blob = self._write(CopyShard(copy, self.world.rank), state)
        if self.ranks_per_node < self.world.size:
            self._exchanging.start(partial(self._exchange, copy, blob))

    def finish(self) -> None:
        """Wait until the partner has the last copy."""
        self._exchanging.finish()

    def find_newest(self, begun: Sequence[GenerationStart]) -> RestorePlan | None:
        """Find the newest complete copy that was not discarded, the same on every rank. Collective."""
        held = object_collectives.all_gather(self.folder.shards(), self._group)
        copy = newest_complete(held, self.world.size, begun)
        return RestorePlan(copy, transfers(held, copy)) if copy else None

    def load(self, found: RestorePlan) -> TrainingState:
        """Fill this rank's tensors from `found`. Collective."""
        mine = CopyShard(found.copy, self.world.rank)
        blob: Tensor | None = None
        for holder, receiver in found.transfers:
            if self.world.rank == holder:
                self._send(self.folder.open(CopyShard(found.copy, receiver)), receiver)
            elif self.world.rank == receiver:
                blob = self._receive(holder)
        return fill_tensors_from_file(self.folder.open(mine) if blob is None else blob, self.tensors)

    def delete_others(self, found: RestorePlan | None) -> None:
        """Delete all copies but `found`, so that discarded state cannot be restored later. Collective."""
        dist.barrier(group=self._group)  # nobody still lists or sends
        self.folder.delete_others(found.copy if found else None)
        dist.barrier(group=self._group)  # and nobody removes what is written from now on

    def _write(self, shard: CopyShard, state: TrainingState) -> Tensor:
        """Write the file of `shard`; warn and return an empty tensor where there is no space for it."""
        header, size = ShardHeader.of(state, self.tensors)
        text = header.model_dump_json(by_alias=True, exclude_none=True).encode()
        try:
            path, blob = self.folder.allocate(padded_header_size(text) + size)
        except OSError as error:
            self.warn(f"no copy of step {state.step} in memory: {self.folder.folder}: {error.strerror}")
            return torch.empty(0, dtype=torch.uint8)
        pack_into(blob, text, header.spans, self.tensors)
        self.folder.publish(path, shard)
        self.folder.delete_older(shard.rank)
        return blob

    def _exchange(self, copy: MemoryCopy, blob: Tensor) -> None:
        """Send to the partner, and store what the corresponding rank of the node before sends."""
        self._sending.start(partial(self._send, blob, self._to))
        size = self._receive_size(self._from)
        if size:
            self._keep(CopyShard(copy, self._from), size)
        self._sending.finish()

    def _keep(self, shard: CopyShard, size: int) -> None:
        path: Path | None = None
        try:
            path, room = self.folder.allocate(size)
        except OSError as error:
            self.warn(f"no mirror of rank {shard.rank} in memory: {self.folder.folder}: {error.strerror}")
            room = torch.empty(size, dtype=torch.uint8)  # taken all the same: the sender waits
        dist.recv(room, group_src=self._from, group=self._group)
        if path is not None:
            self.folder.publish(path, shard)
            self.folder.delete_older(shard.rank)

    def _send(self, blob: Tensor, to: int) -> None:
        dist.send(torch.tensor([blob.numel()]), group_dst=to, group=self._group)
        if blob.numel():
            dist.send(blob, group_dst=to, group=self._group)

    def _receive_size(self, source: int) -> int:
        size = torch.zeros(1, dtype=torch.int64)
        dist.recv(size, group_src=source, group=self._group)
        return int(size.item())

    def _receive(self, source: int) -> Tensor:
        blob = torch.empty(self._receive_size(source), dtype=torch.uint8)
        dist.recv(blob, group_src=source, group=self._group)
        return blob
