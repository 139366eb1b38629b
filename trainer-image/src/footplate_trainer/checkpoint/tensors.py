"""torch's distributed checkpoint over a folder of ours.

torch knows files; a folder may be a bucket. And every byte that is written
passes a checksum on its way, so that nothing is read again to prove it.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystem, FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future
from torch.serialization import get_crc32_options, set_crc32_options

from footplate_trainer.checkpoint.folder import Folder
from footplate_trainer.checkpoint.layout import FileRecord
from footplate_trainer.checkpoint.pace import Pace
from footplate_trainer.errors import CheckpointError, StorageError


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
        """As torch does, but an error of storage comes out as it was: torch's serializer hides it."""
        try:
            with _without_torchs_sums():
                return super().write_data(plan, planner)
        except Exception as error:
            if self._files.failure is not None:
                raise self._files.failure from error
            raise


class TensorReader(FileSystemReader):
    """Reads one directory of `folder`."""

    def __init__(self, folder: Folder, directory: str) -> None:
        super().__init__(directory)
        self.fs, self.path = _Files(folder), directory


def load_alone(folder: Folder, directory: str, tensors: Mapping[str, Tensor]) -> None:
    """Fill `tensors` in place in a process without process group; raises as `loading_errors`."""
    reader = TensorReader(folder, directory)
    with warnings.catch_warnings(), loading_errors(f"checkpoint {directory}"):
        warnings.simplefilter("ignore")  # that there is no process group; there should be none
        load(dict(tensors), storage_reader=reader, no_dist=True)


@contextmanager
def _without_torchs_sums() -> Generator[None]:
    """Ours prove the file; torch's beside them would take a quarter of the writing thread's time."""
    before = get_crc32_options()
    set_crc32_options(False)
    try:
        yield
    finally:
        set_crc32_options(before)


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


class _Files(FileSystem):
    """What torch asks of a file system."""

    def __init__(self, folder: Folder, piece_done: Callable[[], None] = lambda: None) -> None:
        self._folder = folder
        self._piece_done = piece_done
        self.records: dict[str, FileRecord] = {}
        self.failure: OSError | None = None

    @contextmanager
    def create_stream(self, path: str | os.PathLike[str], mode: str) -> Generator[io.IOBase]:
        name = str(path)
        if mode == "rb":
            with self._folder.open_read(name) as file:
                yield cast(io.IOBase, file)
            return
        with self._folder.open_write(name) as file:
            stream = _Summed(file, self._failed, self._piece_done)
            yield stream
        self.records[name] = stream.record(name.rpartition("/")[2])

    def _failed(self, error: OSError) -> None:
        self.failure = self.failure or error

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

    def __init__(
        self, target: Any, failed: Callable[[OSError], None], piece_done: Callable[[], None]
    ) -> None:
        super().__init__()
        self._target = target
        self._failed = failed
        self._piece_done = piece_done
        self._digest = hashlib.sha256()
        self._bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        try:
            self._target.write(content)
        except OSError as error:
            self._failed(error)
            raise
        self._digest.update(content)
        size = memoryview(content).nbytes
        self._bytes += size
        self._piece_done()
        return size

    def tell(self) -> int:
        return self._bytes

    def record(self, file: str) -> FileRecord:
        return FileRecord(file=file, bytes=self._bytes, sha256=self._digest.hexdigest())
