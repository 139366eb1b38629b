"""Assigns the parts of tensors to the ranks that write them: planned by torch, once for all checkpoints.

torch would put an archive of forty small writes around each tensor, each of which takes Python's lock from
the step, and plan anew for each checkpoint. Here ranks plan together once, a tensor's bytes are written as
they are in memory, and the index gives their positions: it is known before anything is written, and is the
same for every checkpoint. Every byte written passes a checksum on its way, so that nothing is read again for
verification. See docs/decisions/ADR-0009-tensors-as-bytes.md and ADR-0010-json-checkpoint-metadata.md.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan, TensorWriteData, WriteItem

from footplate_trainer.checkpoint.folder import Folder
from footplate_trainer.checkpoint.layout import CheckpointFile, tensor_file
from footplate_trainer.checkpoint.tensor_reader import StoredTensor, TensorIndex, TensorSlice, bytes_of
from footplate_trainer.parallel import object_collectives

REST: Final = 3.0  # x the CPU time worked, so that at most a quarter of a core is taken
SMALLEST: Final = 0.002  # CPU seconds worked that are worth a rest


class WriteThrottle:
    """Rate limiter of one checkpoint's writes; constructed in the thread that writes.

    Where the step uses all cores, a thread that writes at full speed makes it take twice as long. Only CPU
    time counts: waiting for a disk or a bucket slows nothing down.
    """

    def __init__(
        self,
        urgent: threading.Event,
        clock: Callable[[], float] = time.thread_time,
        rest: Callable[[float], object] | None = None,
    ) -> None:
        """Start the clock; `rest` sleeps for at most so many seconds, by default until `urgent` is set."""
        self._urgent = urgent
        self._clock = clock
        self._rest = rest or urgent.wait
        self._since = clock()

    def piece_done(self) -> None:
        """Sleep after a piece was written."""
        worked = self._clock() - self._since
        if worked < SMALLEST or self._urgent.is_set():
            return
        self._rest(worked * REST)
        self._since = self._clock()


_PIECE: Final = 4 << 20  # bytes written without a rest


@dataclass(frozen=True)
class TensorPlan:
    """The tensors that this rank writes, in order; valid for every checkpoint of the same memory."""

    file: str
    tensors: Sequence[Tensor]
    index: bytes | None  # tensors.json, of all ranks' files; rank 0 has it

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], group: dist.ProcessGroup | None) -> TensorPlan:
        """Plan across all ranks of `group`, collectively; None: for this process alone."""
        rank = group.rank() if group else 0
        planner = DefaultSavePlanner()
        planner.set_up_planner(dict(tensors), is_coordinator=rank == 0)
        own = planner.create_local_plan()
        plans = object_collectives.gather_to_rank_0(own, group) if group else [own]
        index = None
        if rank == 0:
            plans, _ = planner.create_global_plan(plans)
            index = build_index(plans).model_dump_json().encode()
        plan = planner.finish_plan(object_collectives.scatter_from_0(plans, group) if group else plans[0])
        return cls(tensor_file(rank), [_planned(planner, item) for item in plan.items], index)

    def write(self, folder: Folder, directory: str, pace: WriteThrottle) -> CheckpointFile:
        """Write this rank's file durably; return its size and checksum. Raises OSError."""
        digest, size = hashlib.sha256(), 0
        with folder.open_write(f"{directory}/{self.file}") as file:
            for tensor in self.tensors:
                content = bytes_of(tensor.contiguous())
                for start in range(0, len(content), _PIECE):
                    piece = content[start : start + _PIECE]
                    file.write(piece)
                    digest.update(piece)
                    pace.piece_done()
                size += len(content)
        return CheckpointFile(file=self.file, bytes=size, sha256=digest.hexdigest())


def build_index(plans: Sequence[SavePlan]) -> TensorIndex:
    """Build the index of all files from the ranks' plans; `plans` by rank."""
    tensors: dict[str, StoredTensor] = {}
    for rank, plan in enumerate(plans):
        start = 0
        for item in plan.items:
            data, chunk = _described(item)
            name, dtype = item.index.fqn, data.properties.dtype
            stored = tensors.setdefault(name, StoredTensor(dtype, tuple(data.size), []))
            offsets, shape = tuple(chunk.offsets), tuple(chunk.sizes)
            stored.slices.append(TensorSlice(tensor_file(rank), start, offsets, shape))
            start += chunk.sizes.numel() * dtype.itemsize
    return TensorIndex.model_construct(tensors=tensors)


def _planned(planner: DefaultSavePlanner, item: WriteItem) -> Tensor:
    """Return the tensor in memory that `item` writes."""
    tensor = planner.resolve_data(item)
    assert isinstance(tensor, Tensor), "a checkpoint's state consists of tensors"
    assert tensor.shape == _described(item)[1].sizes, "the plan matches what is written"
    return tensor


def _described(item: WriteItem) -> tuple[TensorWriteData, ChunkStorageMetadata]:
    data = item.tensor_data
    assert data is not None, "a checkpoint's state consists of tensors"
    return data, data.chunk
