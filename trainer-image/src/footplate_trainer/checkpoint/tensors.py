"""Tensors in a checkpoint's files: torch's plans, our bytes and our index of them.

torch would put an archive of forty small writes around each tensor, every one of which takes
Python's lock from the step, and plan anew for each checkpoint. Here ranks plan together once,
a tensor's bytes follow each other as they lie in memory, and the index says where: it is known
before anything is written, and the same for every checkpoint. Every byte that is written passes
a checksum on its way, so that nothing is read again to prove it. See
docs/decisions/ADR-0009-tensors-as-bytes.md and ADR-0010-json-checkpoint-metadata.md.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import (
    LoadPlan,
    LoadPlanner,
    ReadItem,
    SavePlan,
    TensorWriteData,
    WriteItem,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.storage import StorageReader
from torch.futures import Future

from footplate_trainer.checkpoint import layout
from footplate_trainer.checkpoint.folder import Folder
from footplate_trainer.checkpoint.index import StoredTensor, TensorIndex, TensorSlice
from footplate_trainer.checkpoint.layout import FileRecord, tensor_file
from footplate_trainer.checkpoint.pace import Pace
from footplate_trainer.checkpoint.store import CheckpointStore
from footplate_trainer.errors import CheckpointError, StorageError

_PIECE: Final = 4 << 20  # bytes written without a rest


@dataclass(frozen=True)
class TensorPlan:
    """The tensors that this rank writes, in order; holds for every checkpoint of the same memory."""

    file: str
    tensors: Sequence[Tensor]
    index: bytes | None  # tensors.json, of all ranks' files; rank 0 has it

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], group: dist.ProcessGroup | None) -> TensorPlan:
        """The plan of all ranks of `group`, collective; of a process alone without one."""
        rank, size = (dist.get_rank(group), dist.get_world_size(group)) if group else (0, 1)
        planner = DefaultSavePlanner()
        planner.set_up_planner(dict(tensors), is_coordinator=rank == 0)
        plans: list[Any] = [planner.create_local_plan()]
        index = None
        if group:
            everybody: list[Any] | None = [None] * size if rank == 0 else None
            dist.gather_object(plans[0], everybody, group=group, group_dst=0)
            plans = everybody or []
        if rank == 0:
            plans, _ = planner.create_global_plan(plans)
            index = index_of(plans).model_dump_json().encode()
        if group:
            mine: list[Any] = [None]
            dist.scatter_object_list(mine, plans if rank == 0 else None, group=group, group_src=0)
            plans = mine
        plan: SavePlan = planner.finish_plan(plans[0])
        return cls(tensor_file(rank), [_planned(planner, item) for item in plan.items], index)

    def write(self, folder: Folder, directory: str, pace: Pace) -> FileRecord:
        """This rank's file, durably, and what proves it whole; raises OSError."""
        digest, size = hashlib.sha256(), 0
        with folder.open_write(f"{directory}/{self.file}") as file:
            for tensor in self.tensors:
                content = _bytes_of(tensor.contiguous())
                for start in range(0, len(content), _PIECE):
                    piece = content[start : start + _PIECE]
                    file.write(piece)
                    digest.update(piece)
                    pace.piece_done()
                size += len(content)
        return FileRecord(file=self.file, bytes=size, sha256=digest.hexdigest())


def index_of(plans: Sequence[SavePlan]) -> TensorIndex:
    """Where everything will stand once each rank has written its plan; `plans` by rank."""
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


class TensorReader(StorageReader):
    """Reads the files of one directory of `folder`, as torch's `load` asks for them."""

    def __init__(self, folder: Folder, directory: str, index: TensorIndex) -> None:
        self._folder = folder
        self._directory = directory
        self._metadata = Metadata(
            {
                name: TensorStorageMetadata(
                    TensorProperties(tensor.dtype),
                    torch.Size(tensor.shape),
                    [
                        ChunkStorageMetadata(torch.Size(part.offsets), torch.Size(part.shape))
                        for part in tensor.slices
                    ],
                )
                for name, tensor in index.tensors.items()
            }
        )
        self._slices = {
            (name, part.offsets): (part, tensor.dtype)
            for name, tensor in index.tensors.items()
            for part in tensor.slices
        }

    def reset(self, checkpoint_id: object = None) -> None:
        """One reader reads one directory."""

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: object) -> bool:
        """A directory is named when the reader is made."""
        return checkpoint_id is None

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Names and shapes of all tensors and of their parts."""
        return self._metadata

    def set_up_storage_reader(self, metadata: Metadata, *args: Any, **kwargs: Any) -> None:
        """Where they stand is known already."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """As it is."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """As they are."""
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Fill the parts that are wanted here, file by file and from front to back."""
        wanted: dict[str, list[tuple[TensorSlice, torch.dtype, ReadItem]]] = defaultdict(list)
        for item in plan.items:
            part, dtype = self._slices[item.storage_index.fqn, tuple(item.storage_index.offset or ())]
            wanted[part.file].append((part, dtype, item))
        for name, reads in wanted.items():
            with self._folder.open_read(f"{self._directory}/{name}") as file:
                for part, dtype, item in sorted(reads, key=lambda read: read[0].start):
                    target = planner.resolve_tensor(item).detach()
                    _fill(target, cast(io.BufferedReader, file), part, dtype, item)
                    planner.commit_tensor(item, target)
        done: Future[None] = Future()
        done.set_result(None)
        return done


def load_alone(store: CheckpointStore, directory: str, tensors: Mapping[str, Tensor]) -> None:
    """Fill `tensors` in place in a process without process group; raises as `loading_errors`."""
    what = f"checkpoint {store.place(directory)}"
    with loading_errors(what):
        index = store.read(TensorIndex, directory, layout.INDEX_FILE)
        reader = TensorReader(store.folder, directory, index)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is no process group; there should be none
            load(dict(tensors), storage_reader=reader, no_dist=True)


@contextmanager
def loading_errors(what: str) -> Generator[None]:
    """Turn torch's CheckpointException, which no `except Exception` meets, into an error about `what`.

    StorageError where reading failed, CheckpointError where something else is there than was asked for.
    """
    try:
        yield
    except CheckpointException as error:
        causes = [cause for cause, _ in error.failures.values()]
        unread = next((cause for cause in causes if isinstance(cause, OSError)), None)
        if unread is not None:
            raise StorageError(f"{what} cannot be read: {unread}") from error
        raise CheckpointError(f"{what} cannot be loaded: {causes[0]}") from error


def _fill(
    target: Tensor, stream: io.BufferedReader, part: TensorSlice, dtype: torch.dtype, item: ReadItem
) -> None:
    """Read what `item` wants of a slice: its rows, and of each what is wanted.

    Straight into `target` where that is laid out as the file is. CheckpointError when bytes are missing.
    """
    rows, first = torch.Size(part.shape), 0
    if part.shape:
        row = torch.Size(part.shape[1:])
        rows = torch.Size((item.lengths[0], *row))
        first = item.storage_offsets[0] * row.numel() * dtype.itemsize
    direct = (target.shape, target.dtype, target.device.type) == (rows, dtype, "cpu")
    read = target if direct and target.is_contiguous() else torch.empty(rows, dtype=dtype)
    stream.seek(part.start + first)
    content = _bytes_of(read)
    if stream.readinto(content) < len(content):
        raise CheckpointError(f"{part.file} ends within a tensor")
    if read is not target:
        for dimension, (offset, length) in enumerate(zip(item.storage_offsets, item.lengths, strict=True)):
            if dimension > 0:
                read = read.narrow(dimension, offset, length)
        target.copy_(read)


def _planned(planner: DefaultSavePlanner, item: WriteItem) -> Tensor:
    """The tensor in memory that `item` asks to write."""
    tensor = planner.resolve_data(item)
    assert isinstance(tensor, Tensor), "a checkpoint's state is tensors"
    assert tensor.shape == _described(item)[1].sizes, "what is planned is what is written"
    return tensor


def _described(item: WriteItem) -> tuple[TensorWriteData, ChunkStorageMetadata]:
    data = item.tensor_data
    assert data is not None, "a checkpoint's state is tensors"
    return data, data.chunk


def _bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor in host memory."""
    return tensor.detach().reshape(-1).view(torch.uint8).numpy().data
