"""Files of copies in this node's memory.

The agent owns the folder, so a copy outlives the ranks. A file is a shard, and gets its name only once it is
complete.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import torch
from torch import Tensor

from footplate_trainer.checkpoint.memory.copies import KEPT, CopyShard, MemoryCopy


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
