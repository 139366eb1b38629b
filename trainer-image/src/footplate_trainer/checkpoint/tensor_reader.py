"""Loads tensors from a checkpoint's files, whatever layout wrote them.

torch plans which parts a load has to read; the file format is ours: the bytes of the tensors as they are in
memory, and an index. See docs/decisions/ADR-0009-tensors-as-bytes.md.
"""

from __future__ import annotations

import io
import warnings
from collections import defaultdict
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.distributed as dist
from pydantic import Field, NonNegativeInt, PlainSerializer, PlainValidator
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
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
)
from torch.distributed.checkpoint.state_dict_loader import load as load_state
from torch.distributed.checkpoint.storage import StorageReader
from torch.futures import Future

from footplate_contracts.base import WireMessage
from footplate_trainer.checkpoint import layout
from footplate_trainer.checkpoint.folder import ReadFolder
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.errors import CheckpointError, StorageError


def _dtype(name: object) -> torch.dtype:
    found = getattr(torch, name, None) if isinstance(name, str) else None
    if not isinstance(found, torch.dtype):
        raise ValueError(f"this torch version has no dtype {name}")
    return found


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


ElementType = Annotated[torch.dtype, PlainValidator(_dtype), PlainSerializer(_name)]
"""In JSON as torch names it: float32."""


@dataclass(frozen=True, slots=True)
class TensorSlice:
    """A rectangular part of a tensor, stored in `file` in the element order of a contiguous tensor.

    An index may have a hundred thousand: pydantic fills dataclasses four times as fast as models.
    """

    file: Annotated[str, Field(pattern=r"^tensors-\d+\.bin$")]
    start: NonNegativeInt  # bytes before its first element
    offsets: tuple[NonNegativeInt, ...]  # of the box in the tensor
    shape: tuple[NonNegativeInt, ...]


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor, in as many slices as there were ranks with distinct parts of it."""

    dtype: ElementType
    shape: tuple[NonNegativeInt, ...]
    slices: list[TensorSlice]


class TensorIndex(WireMessage):
    """Content of tensors.json: all tensors of a checkpoint by name."""

    tensors: dict[str, StoredTensor]


class TensorReader(StorageReader):
    """StorageReader for torch's `load_tensors` over the files of one directory of `folder`."""

    def __init__(self, folder: ReadFolder, directory: str, index: TensorIndex) -> None:
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
        """Do nothing: a reader reads one directory."""

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: object) -> bool:
        """Return whether there is no id: the constructor names the directory."""
        return checkpoint_id is None

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Return names and shapes of all tensors and of their parts."""
        return self._metadata

    def set_up_storage_reader(self, metadata: Metadata, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the constructor received the tensors' positions."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """Return `plan` unchanged."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """Return `plans` unchanged."""
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Fill the requested parts, file by file and front to back."""
        wanted: dict[str, list[tuple[TensorSlice, torch.dtype, ReadItem]]] = defaultdict(list)
        for item in plan.items:
            part, dtype = self._slices[item.storage_index.fqn, tuple(item.storage_index.offset or ())]
            wanted[part.file].append((part, dtype, item))
        for name, reads in wanted.items():
            with self._folder.open_read(f"{self._directory}/{name}") as file:
                for part, dtype, item in sorted(reads, key=lambda read: read[0].start):
                    target = planner.resolve_tensor(item).detach()
                    _fill(target, file, part, dtype, item)
                    planner.commit_tensor(item, target)
        done: Future[None] = Future()
        done.set_result(None)
        return done


def read_index(checkpoint: StepCheckpoint) -> TensorIndex:
    """Read the tensor index of a step directory; CheckpointDamaged when that is missing or torn."""
    return checkpoint.read(TensorIndex, layout.INDEX_FILE)


def load_tensors(
    checkpoint: StepCheckpoint, tensors: Mapping[str, Tensor], group: dist.ProcessGroup | None = None
) -> None:
    """Fill `tensors` in place, whatever layout wrote them. Collective over `group`; None: this process alone.

    Raises, on every rank, what `loading_errors` does.
    """
    reader = TensorReader(checkpoint.store.folder, checkpoint.directory, read_index(checkpoint))
    with loading_errors(f"checkpoint {checkpoint.name}"), warnings.catch_warnings():
        if group is None:
            warnings.simplefilter("ignore")  # that there is no process group; there should be none
        load_state(dict(tensors), storage_reader=reader, process_group=group, no_dist=group is None)


@contextmanager
def loading_errors(what: str) -> Generator[None]:
    """Turn torch's CheckpointException, which `except Exception` does not catch, into an error about `what`.

    StorageError where reading failed, CheckpointError where the checkpoint does not have the requested
    tensors.
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
    """Read the rows of a slice that `item` requests, and copy the requested part of each row.

    Reads directly into `target` where that has the file's layout. CheckpointError when bytes are missing.
    """
    rows, first = torch.Size(part.shape), 0
    if part.shape:
        row = torch.Size(part.shape[1:])
        rows = torch.Size((item.lengths[0], *row))
        first = item.storage_offsets[0] * row.numel() * dtype.itemsize
    direct = (target.shape, target.dtype, target.device.type) == (rows, dtype, "cpu")
    read = target if direct and target.is_contiguous() else torch.empty(rows, dtype=dtype)
    stream.seek(part.start + first)
    content = bytes_of(read)
    if stream.readinto(content) < len(content):
        raise CheckpointError(f"{part.file} ends within a tensor")
    if read is not target:
        for dimension, (offset, length) in enumerate(zip(item.storage_offsets, item.lengths, strict=True)):
            if dimension > 0:
                read = read.narrow(dimension, offset, length)
        target.copy_(read)


def bytes_of(tensor: Tensor) -> memoryview:
    """Return the memory of a contiguous tensor in host memory."""
    return tensor.detach().reshape(-1).view(torch.uint8).numpy().data
