"""Tensors in a checkpoint's files: torch's plans and metadata, our bytes.

torch would put an archive of forty small writes around each tensor, every one of which takes
Python's lock from the step, and plan anew for each checkpoint. Here ranks plan together once,
a tensor's bytes follow each other as they lie in memory, and the metadata say where. Every byte
that is written passes a checksum on its way, so that nothing is read again to prove it. See
docs/decisions/ADR-0009-tensors-as-bytes.md.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import warnings
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, ReadItem, SavePlan
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.storage import StorageReader
from torch.futures import Future

from footplate_trainer.checkpoint.folder import Folder
from footplate_trainer.checkpoint.layout import METADATA_FILE, FileRecord, tensor_file
from footplate_trainer.checkpoint.pace import Pace
from footplate_trainer.errors import CheckpointError, StorageError

_PIECE: Final = 4 << 20  # bytes written without a rest


@dataclass(frozen=True)
class Place:
    """Where the bytes of one tensor, or of one rank's part of it, stand within a directory."""

    file: str
    offset: int  # bytes
    shape: torch.Size
    dtype: torch.dtype


@dataclass(frozen=True)
class Written:
    """One rank's file."""

    record: FileRecord
    places: Mapping[MetadataIndex, Place]


@dataclass(frozen=True)
class TensorPlan:
    """Which parts of all tensors this rank writes; holds for every checkpoint of the same memory."""

    parts: Sequence[tuple[MetadataIndex, Tensor]]
    metadata: Metadata | None  # of all ranks; rank 0 has it

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], group: dist.ProcessGroup | None) -> TensorPlan:
        """The plan of all ranks of `group`, collective; of a process alone without one."""
        rank, size = (dist.get_rank(group), dist.get_world_size(group)) if group else (0, 1)
        planner = DefaultSavePlanner()
        planner.set_up_planner(dict(tensors), is_coordinator=rank == 0)
        plans: list[Any] = [planner.create_local_plan()]
        metadata = None
        if group:
            everybody: list[Any] | None = [None] * size if rank == 0 else None
            dist.gather_object(plans[0], everybody, group=group, group_dst=0)
            plans = everybody or []
        if rank == 0:
            plans, metadata = planner.create_global_plan(plans)
        if group:
            mine: list[Any] = [None]
            dist.scatter_object_list(mine, plans if rank == 0 else None, group=group, group_src=0)
            plans = mine
        plan: SavePlan = planner.finish_plan(plans[0])
        return cls([(item.index, _tensor(planner.resolve_data(item))) for item in plan.items], metadata)

    def write(self, folder: Folder, directory: str, rank: int, pace: Pace) -> Written:
        """This rank's parts in one file, one behind the other, durably; raises OSError."""
        name, places = tensor_file(rank), {}
        digest, offset = hashlib.sha256(), 0
        with folder.open_write(f"{directory}/{name}") as file:
            for index, tensor in self.parts:
                places[index] = Place(name, offset, tensor.shape, tensor.dtype)
                content = _bytes_of(tensor.contiguous())
                for start in range(0, len(content), _PIECE):
                    piece = content[start : start + _PIECE]
                    file.write(piece)
                    digest.update(piece)
                    pace.piece_done()
                offset += len(content)
        return Written(FileRecord(file=name, bytes=offset, sha256=digest.hexdigest()), places)

    def described(self, files: Sequence[Written]) -> bytes:
        """The metadata file, from what all ranks have written; on rank 0."""
        assert self.metadata is not None, "rank 0 has them"
        found = {index: place for file in files for index, place in file.places.items()}
        return pickle.dumps(replace(self.metadata, storage_data=found))


class TensorReader(StorageReader):
    """Reads one directory of `folder`, as torch's `load` asks for it."""

    def __init__(self, folder: Folder, directory: str) -> None:
        self._folder = folder
        self._directory = directory
        self._places: Any = {}

    def reset(self, checkpoint_id: object = None) -> None:
        """One reader reads one directory."""

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: object) -> bool:
        """A directory is named when the reader is made."""
        return checkpoint_id is None

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Names, shapes and places of all tensors; raises OSError."""
        with self._folder.open_read(f"{self._directory}/{METADATA_FILE}") as file:
            return cast(Metadata, pickle.load(file))

    def set_up_storage_reader(self, metadata: Metadata, *args: Any, **kwargs: Any) -> None:
        """Learn where tensors stand."""
        self._places = metadata.storage_data

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """As it is."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """As they are."""
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Fill the parts that are wanted here, file by file and from front to back."""
        wanted: dict[str, list[tuple[Place, ReadItem]]] = defaultdict(list)
        for item in plan.items:
            place = self._places[item.storage_index]
            if not isinstance(place, Place):
                raise CheckpointError("its tensors were written by another release")
            wanted[place.file].append((place, item))
        for name, parts in wanted.items():
            with self._folder.open_read(f"{self._directory}/{name}") as file:
                for place, item in sorted(parts, key=lambda part: part[0].offset):
                    target = planner.resolve_tensor(item).detach()
                    _fill(target, cast(io.BufferedReader, file), place, item)
                    planner.commit_tensor(item, target)
        done: Future[None] = Future()
        done.set_result(None)
        return done


def load_alone(folder: Folder, directory: str, tensors: Mapping[str, Tensor]) -> None:
    """Fill `tensors` in place in a process without process group; raises as `loading_errors`."""
    reader = TensorReader(folder, directory)
    with warnings.catch_warnings(), loading_errors(f"checkpoint {directory}"):
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


def _fill(target: Tensor, stream: io.BufferedReader, place: Place, item: ReadItem) -> None:
    """Read the part of the tensor at `place` that `item` wants: its rows, and of each what is wanted.

    Straight into `target` where that is laid out as the file is. CheckpointError when bytes are missing.
    """
    rows, first = place.shape, 0
    if place.shape:
        rows = torch.Size((item.lengths[0], *place.shape[1:]))
        first = item.storage_offsets[0] * place.shape[1:].numel() * place.dtype.itemsize
    direct = (target.shape, target.dtype, target.device.type) == (rows, place.dtype, "cpu")
    read = target if direct and target.is_contiguous() else torch.empty(rows, dtype=place.dtype)
    stream.seek(place.offset + first)
    content = _bytes_of(read)
    if stream.readinto(content) < len(content):
        raise CheckpointError(f"{place.file} ends within a tensor")
    if read is not target:
        for dimension, (offset, length) in enumerate(zip(item.storage_offsets, item.lengths, strict=True)):
            if dimension > 0:
                read = read.narrow(dimension, offset, length)
        target.copy_(read)


def _tensor(value: object) -> Tensor:
    assert isinstance(value, Tensor), "a checkpoint's state is tensors"
    return value


def _bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor in host memory."""
    return tensor.detach().reshape(-1).view(torch.uint8).numpy().data
