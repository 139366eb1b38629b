"""Copies the state into the memory of this node and the next one every few steps, and restores it from there.

All ranks take part in every collective here, in a process group of its own, so that these messages never
interleave with those of training or of durable checkpoints.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor

from footplate_contracts.base import Contract
from footplate_contracts.reports import GenerationId
from footplate_trainer.background import OneInFlight
from footplate_trainer.checkpoint.layout import GenerationStart
from footplate_trainer.checkpoint.memory.copies import KEPT, CopyShard, MemoryCopy, newest_complete, transfers
from footplate_trainer.checkpoint.training_state import TrainingState
from footplate_trainer.parallel import object_collectives
from footplate_trainer.parallel.world import DistributedContext

_ALIGNMENT: Final = 64  # bytes
_LENGTH: Final = 8  # bytes of the header's length, little-endian


class TensorSpan(Contract):
    """Position of one tensor's part in a file."""

    name: str
    shape: list[int]
    dtype: str
    start: int  # bytes behind the header


class ShardHeader(Contract):
    """JSON header of a shard's file: eight bytes of length, this header, and all tensors' parts, aligned."""

    state: TrainingState
    spans: list[TensorSpan]

    @classmethod
    def of(cls, state: TrainingState, tensors: Mapping[str, Tensor]) -> tuple[ShardHeader, int]:
        """Build the header for the local parts `tensors`; also return the bytes that they take after it."""
        spans, end = [], 0
        for name, tensor in tensors.items():
            spans.append(TensorSpan(name=name, shape=list(tensor.shape), dtype=str(tensor.dtype), start=end))
            end += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
        return cls(state=state, spans=spans), end


def pack_into(
    blob: Tensor, header: bytes, spans: Sequence[TensorSpan], tensors: Mapping[str, Tensor]
) -> None:
    """Fill `blob` [uint8] with a complete file."""
    opening = len(header).to_bytes(_LENGTH, "little") + header
    blob[: len(opening)].copy_(torch.frombuffer(bytearray(opening), dtype=torch.uint8))
    for span in spans:
        _view(blob, padded_header_size(header), span, tensors[span.name]).copy_(tensors[span.name])


def fill_tensors_from_file(blob: Tensor, tensors: Mapping[str, Tensor]) -> TrainingState:
    """Fill the local parts `tensors` from a complete file; ValueError when it has other tensors."""
    length = int.from_bytes(bytes(blob[:_LENGTH].tolist()), "little")
    content = bytes(blob[_LENGTH : _LENGTH + length].numpy())
    header = ShardHeader.from_json(json.loads(content))
    expected, _ = ShardHeader.of(header.state, tensors)
    if expected.spans != header.spans:
        raise ValueError("the copy in memory belongs to another model, optimizer or layout")
    for span in header.spans:
        tensors[span.name].copy_(_view(blob, padded_header_size(content), span, tensors[span.name]))
    return header.state


def padded_header_size(header: bytes) -> int:
    """Return the bytes before the first tensor."""
    return -(-(_LENGTH + len(header)) // _ALIGNMENT) * _ALIGNMENT


def _view(blob: Tensor, origin: int, span: TensorSpan, like: Tensor) -> Tensor:
    start = origin + span.start
    return blob[start : start + like.nbytes].view(like.dtype).view(like.shape)


class MemoryFolder:
    """Shard files in /dev/shm; several ranks and generations use the folder, one file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def shards(self) -> list[CopyShard]:
        """List all complete shards."""
        found = (CopyShard.parse(path.name) for path in self.folder.iterdir())
        return sorted(shard for shard in found if shard is not None)

    def allocate(self, size: int) -> tuple[Path, Tensor]:
        """Allocate and map a file of `size` bytes with a temporary name; OSError when there is no space."""
        path = self.folder / f".{uuid.uuid4().hex}"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)  # else a full /dev/shm kills with SIGBUS
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(descriptor)
        return path, _mapped(path)

    def publish(self, path: Path, shard: CopyShard) -> None:
        """Rename a filled file to its final name."""
        path.replace(self.folder / shard.name)

    def open(self, shard: CopyShard) -> Tensor:
        """Map a complete file [uint8]."""
        return _mapped(self.folder / shard.name)

    def delete_older(self, rank: int) -> None:
        """Delete all but the newest few shards of one rank."""
        mine = [shard for shard in self.shards() if shard.rank == rank]
        for shard in mine[:-KEPT]:
            (self.folder / shard.name).unlink(missing_ok=True)

    def delete_others(self, copy: MemoryCopy | None) -> None:
        """Delete all shards of other copies, and incomplete files."""
        for path in self.folder.iterdir():
            shard = CopyShard.parse(path.name)
            if shard is None or shard.copy != copy:
                path.unlink(missing_ok=True)


def _mapped(path: Path) -> Tensor:
    return torch.from_file(str(path), shared=True, size=path.stat().st_size, dtype=torch.uint8)


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
        assert isinstance(group, dist.ProcessGroup), "every rank is a member of this group"
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
