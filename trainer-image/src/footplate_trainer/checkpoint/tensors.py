"""Tensors out of a checkpoint's files, whatever layout wrote them.

torch plans what a load has to read; the files are ours: the bytes of tensors as they lie in memory,
and an index of them. See docs/decisions/ADR-0009-tensors-as-bytes.md.
"""

from __future__ import annotations

import io
import warnings
from collections import defaultdict
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
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

from footplate_trainer.checkpoint import layout
from footplate_trainer.checkpoint.folder import ReadFolder
from footplate_trainer.checkpoint.index import TensorIndex, TensorSlice
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.errors import CheckpointError, StorageError


class TensorReader(StorageReader):
    """Reads the files of one directory of `folder`, as torch's `load` asks for them."""

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
                    _fill(target, file, part, dtype, item)
                    planner.commit_tensor(item, target)
        done: Future[None] = Future()
        done.set_result(None)
        return done


def index_of(checkpoint: StepCheckpoint) -> TensorIndex:
    """What tensors a step directory holds, and where; CheckpointDamaged when that cannot be read."""
    return checkpoint.read(TensorIndex, layout.INDEX_FILE)


def load(
    checkpoint: StepCheckpoint, tensors: Mapping[str, Tensor], group: dist.ProcessGroup | None = None
) -> None:
    """Fill `tensors` in place, whatever layout wrote them: collective, or without `group` in a process alone.

    Raises, on every rank, what `loading_errors` does.
    """
    reader = TensorReader(checkpoint.store.folder, checkpoint.directory, index_of(checkpoint))
    with loading_errors(f"checkpoint {checkpoint.name}"), warnings.catch_warnings():
        if group is None:
            warnings.simplefilter("ignore")  # that there is no process group; there should be none
        load_state(dict(tensors), storage_reader=reader, process_group=group, no_dist=group is None)


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
    content = bytes_of(read)
    if stream.readinto(content) < len(content):
        raise CheckpointError(f"{part.file} ends within a tensor")
    if read is not target:
        for dimension, (offset, length) in enumerate(zip(item.storage_offsets, item.lengths, strict=True)):
            if dimension > 0:
                read = read.narrow(dimension, offset, length)
        target.copy_(read)


def bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor in host memory."""
    return tensor.detach().reshape(-1).view(torch.uint8).numpy().data
