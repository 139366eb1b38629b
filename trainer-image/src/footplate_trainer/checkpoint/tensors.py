"""torch's distributed checkpoint over a folder of ours: its plans and metadata, our bytes.

torch would put an archive of forty small writes around each tensor, every one of which takes
Python's lock from the step. Here a tensor's bytes follow each other as they lie in memory, and
the metadata say where. Every byte that is written passes a checksum on its way, so that nothing
is read again to prove it. See docs/decisions/ADR-0009-tensors-as-bytes.md.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystem, FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, ReadItem, SavePlan, SavePlanner
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from footplate_trainer.checkpoint.folder import Folder
from footplate_trainer.checkpoint.layout import FileRecord
from footplate_trainer.checkpoint.pace import Pace
from footplate_trainer.errors import CheckpointError, StorageError

Value = TypeVar("Value")

_PIECE: Final = 4 << 20  # bytes written without a rest


@dataclass(frozen=True)
class Place:
    """Where the bytes of one tensor, or of one rank's part of it, stand within a directory."""

    file: str
    offset: int  # bytes
    size: int  # bytes
    shape: torch.Size
    dtype: torch.dtype


class TensorWriter(FileSystemWriter):
    """Writes one directory of `folder` at its `pace`; `records` proves what this rank wrote."""

    def __init__(self, folder: Folder, directory: str, pace: Pace) -> None:
        super().__init__(directory, single_file_per_rank=True, sync_files=False, overwrite=True)
        self._files = _Files(folder, pace.piece_done)
        self.fs, self.path = self._files, directory

    @property
    def records(self) -> list[FileRecord]:
        """The files that were written, by name within the directory."""
        return [self._files.records[name] for name in sorted(self._files.records)]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """All tensors of this rank in one file, one behind the other."""
        name, results = f"{plan.storage_data.prefix}0.distcp", []
        with self._files.create_stream(f"{self.path}/{name}", "wb") as stream:
            for item in plan.items:
                tensor = planner.resolve_data(item)
                assert isinstance(tensor, Tensor), "a checkpoint's state is tensors"
                content = _bytes_of(tensor.contiguous())
                place = Place(name, stream.tell(), len(content), tensor.shape, tensor.dtype)
                for start in range(0, len(content), _PIECE):
                    stream.write(content[start : start + _PIECE])
                results.append(WriteResult(item.index, len(content), place))
        return _done(results)


class TensorReader(FileSystemReader):
    """Reads one directory of `folder`."""

    def __init__(self, folder: Folder, directory: str) -> None:
        super().__init__(directory)
        self.fs, self.path = _Files(folder), directory

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Fill the parts that are wanted here, file by file and from front to back."""
        wanted: dict[str, list[tuple[Place, ReadItem]]] = defaultdict(list)
        for item in plan.items:
            place = self.storage_data[item.storage_index]
            if not isinstance(place, Place):
                raise CheckpointError("its tensors were written by another release")
            wanted[place.file].append((place, item))
        for name, parts in wanted.items():
            with self.fs.create_stream(f"{self.path}/{name}", "rb") as stream:
                for place, item in sorted(parts, key=lambda part: part[0].offset):
                    target = planner.resolve_tensor(item).detach()
                    _fill(target, cast(io.BufferedReader, stream), place, item)
                    planner.commit_tensor(item, target)
        return _done(None)


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


def _bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor in host memory."""
    return tensor.detach().reshape(-1).view(torch.uint8).numpy().data


def _done(value: Value) -> Future[Value]:
    future: Future[Value] = Future()
    future.set_result(value)
    return future


class _Files(FileSystem):
    """What torch asks of a file system."""

    def __init__(self, folder: Folder, piece_done: Callable[[], None] = lambda: None) -> None:
        self._folder = folder
        self._piece_done = piece_done
        self.records: dict[str, FileRecord] = {}

    @contextmanager
    def create_stream(self, path: str | os.PathLike[str], mode: str) -> Generator[io.IOBase]:
        name = str(path)
        if mode == "rb":
            with self._folder.open_read(name) as file:
                yield cast(io.IOBase, file)
            return
        with self._folder.open_write(name) as file:
            stream = _Summed(file, self._piece_done)
            yield stream
        self.records[name] = stream.record(name.rpartition("/")[2])

    def concat_path(self, path: str | os.PathLike[str], suffix: str) -> str:
        return f"{path}/{suffix}"

    def rename(self, path: str | os.PathLike[str], new_path: str | os.PathLike[str]) -> None:
        name, new_name = str(path), str(new_path)
        self._folder.rename(name, new_name)
        record = self.records.pop(name)
        self.records[new_name] = record.model_copy(update={"file": new_name.rpartition("/")[2]})

    def init_path(self, path: str | os.PathLike[str]) -> str:
        return str(path)

    def mkdir(self, path: str | os.PathLike[str]) -> None:
        """A directory comes to be with its first file."""

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        return True

    def exists(self, path: str | os.PathLike[str]) -> bool:
        try:
            self._folder.size(str(path))
        except FileNotFoundError:
            return False
        return True

    def rm_file(self, path: str | os.PathLike[str]) -> None:
        self._folder.delete(str(path))


class _Summed(io.RawIOBase):
    """A stream that counts and hashes what goes into `target`."""

    def __init__(self, target: Any, piece_done: Callable[[], None]) -> None:
        super().__init__()
        self._target = target
        self._piece_done = piece_done
        self._digest = hashlib.sha256()
        self._bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._target.write(content)
        self._digest.update(content)
        size = memoryview(content).nbytes
        self._bytes += size
        self._piece_done()
        return size

    def tell(self) -> int:
        return self._bytes

    def record(self, file: str) -> FileRecord:
        return FileRecord(file=file, bytes=self._bytes, sha256=self._digest.hexdigest())
