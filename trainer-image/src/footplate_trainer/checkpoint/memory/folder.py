"""Copies of the state in this node's memory: what is there, which of them counts, how they are laid out.

The agent owns the folder, so a copy outlives the ranks. A file is one rank's
shard of one step: eight bytes of header length, a JSON header, and its parts of
all tensors, each from a multiple of 64 bytes. It has its name only once it is
whole. See docs/decisions/ADR-0006-memory-checkpoints.md.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from footplate_contracts.model import Contract
from footplate_contracts.reports import GenerationId
from footplate_trainer.checkpoint.record import TrainingState

KEPT: Final = 2  # steps: the newest one may be incomplete when a rank dies
_ALIGNMENT: Final = 64  # bytes
_LENGTH: Final = 8  # bytes of the header's length, little-endian
_NAME = re.compile(r"step-(\d+)\.e(\d+)g(\d+)\.(\d+)-of-(\d+)")


@dataclass(frozen=True, order=True)
class MemoryCopy:
    """All ranks' state after one step of one generation."""

    step: int
    epoch: int
    number: int
    ranks: int

    @classmethod
    def of(cls, step: int, generation: GenerationId, ranks: int) -> MemoryCopy:
        """The copy that `generation` of so many `ranks` makes at `step`."""
        return cls(step, generation.epoch, generation.number, ranks)


@dataclass(frozen=True, order=True)
class CopyShard:
    """One rank's part of a copy, which is a file."""

    copy: MemoryCopy
    rank: int

    @property
    def name(self) -> str:
        """Its file."""
        copy = self.copy
        return f"step-{copy.step}.e{copy.epoch}g{copy.number}.{self.rank}-of-{copy.ranks}"

    @classmethod
    def parse(cls, name: str) -> CopyShard | None:
        """The inverse of `name`; None for anything else."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        step, epoch, number, rank, ranks = map(int, match.groups())
        return cls(MemoryCopy(step, epoch, number, ranks), rank)


def newest_complete(held: Sequence[Iterable[CopyShard]], ranks: int) -> MemoryCopy | None:
    """The newest copy of a world of `ranks` that has all its shards somewhere; `held` by rank. Pure."""
    everywhere = {shard for shards in held for shard in shards}
    copies = {shard.copy for shard in everywhere if shard.copy.ranks == ranks}
    complete = [copy for copy in copies if all(CopyShard(copy, rank) in everywhere for rank in range(ranks))]
    return max(complete, default=None)


def transfers(held: Sequence[Iterable[CopyShard]], copy: MemoryCopy) -> list[tuple[int, int]]:
    """(holder, receiver) for each rank whose node does not hold its own shard of `copy`. Pure."""
    holders = [set(shards) for shards in held]
    return [
        (next(rank for rank, shards in enumerate(holders) if CopyShard(copy, receiver) in shards), receiver)
        for receiver in range(copy.ranks)
        if CopyShard(copy, receiver) not in holders[receiver]
    ]


class TensorSpan(Contract):
    """Where one tensor's part lies in a file."""

    name: str
    shape: list[int]
    dtype: str
    start: int  # bytes behind the header


class ShardHeader(Contract):
    """What a file holds."""

    state: TrainingState
    spans: list[TensorSpan]

    @classmethod
    def of(cls, state: TrainingState, tensors: Mapping[str, Tensor]) -> tuple[ShardHeader, int]:
        """The header for the local parts `tensors`, and the bytes that they take behind it."""
        spans, end = [], 0
        for name, tensor in tensors.items():
            spans.append(TensorSpan(name=name, shape=list(tensor.shape), dtype=str(tensor.dtype), start=end))
            end += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
        return cls(state=state, spans=spans), end


def pack_into(
    blob: Tensor, header: bytes, spans: Sequence[TensorSpan], tensors: Mapping[str, Tensor]
) -> None:
    """Fill `blob` [uint8] with a whole file."""
    opening = len(header).to_bytes(_LENGTH, "little") + header
    blob[: len(opening)].copy_(torch.frombuffer(bytearray(opening), dtype=torch.uint8))
    for span in spans:
        _view(blob, opening_size(header), span, tensors[span.name]).copy_(tensors[span.name])


def unpack_from(blob: Tensor, tensors: Mapping[str, Tensor]) -> TrainingState:
    """Fill the local parts `tensors` from a whole file; ValueError when it is of other tensors."""
    length = int.from_bytes(bytes(blob[:_LENGTH].tolist()), "little")
    content = bytes(blob[_LENGTH : _LENGTH + length].numpy())
    header = ShardHeader.from_json(json.loads(content))
    expected, _ = ShardHeader.of(header.state, tensors)
    if expected.spans != header.spans:
        raise ValueError("the copy in memory is of another model, optimizer or layout")
    for span in header.spans:
        tensors[span.name].copy_(_view(blob, opening_size(content), span, tensors[span.name]))
    return header.state


def opening_size(header: bytes) -> int:
    """Bytes before the first tensor."""
    return -(-(_LENGTH + len(header)) // _ALIGNMENT) * _ALIGNMENT


def _view(blob: Tensor, origin: int, span: TensorSpan, like: Tensor) -> Tensor:
    start = origin + span.start
    return blob[start : start + like.nbytes].view(like.dtype).view(like.shape)


class MemoryFolder:
    """Files in /dev/shm; several ranks and generations use it, one file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def shards(self) -> list[CopyShard]:
        """All whole files."""
        found = (CopyShard.parse(path.name) for path in self.folder.iterdir())
        return sorted(shard for shard in found if shard is not None)

    def room(self, size: int) -> tuple[Path, Tensor]:
        """A file of `size` bytes that has no name yet, and its memory; OSError when there is no room."""
        path = self.folder / f".{uuid.uuid4().hex}"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)  # else a full /dev/shm kills with SIGBUS
            return path, _mapped(descriptor, size)
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(descriptor)

    def publish(self, path: Path, shard: CopyShard) -> None:
        """Give a filled file its name."""
        path.replace(self.folder / shard.name)

    def open(self, shard: CopyShard) -> Tensor:
        """The memory of a whole file [uint8]."""
        descriptor = os.open(self.folder / shard.name, os.O_RDWR)
        try:
            return _mapped(descriptor, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)

    def keep_newest(self, rank: int) -> None:
        """Of one rank's shards only the newest few stay."""
        mine = [shard for shard in self.shards() if shard.rank == rank]
        for shard in mine[:-KEPT]:
            (self.folder / shard.name).unlink(missing_ok=True)

    def keep_only(self, copy: MemoryCopy | None) -> None:
        """Remove all shards of other copies, and what was never finished."""
        for path in self.folder.iterdir():
            shard = CopyShard.parse(path.name)
            if shard is None or shard.copy != copy:
                path.unlink(missing_ok=True)


def _mapped(descriptor: int, size: int) -> Tensor:
    mapping: Any = mmap.mmap(descriptor, size)
    return torch.frombuffer(mapping, dtype=torch.uint8)
