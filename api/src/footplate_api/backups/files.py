"""File-system helpers of backups: listing, free space, new files and fsync."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from footplate_api.backups import names
from footplate_api.errors import InsufficientSpace


def list_backups(folder: Path) -> list[str]:
    """Return the names of the backups in `folder`, newest first; raises OSError."""
    return names.backup_names(path.name for path in folder.iterdir())


def sync(folder: Path) -> None:
    """Flush `folder` to disk, so that the names in it survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create_file(file: Path) -> int:
    """Return a descriptor of a new file that the volume's group may read."""
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)


def require_space(folder: Path, size: int, remedy: str) -> None:
    """Raise InsufficientSpace if the volume of `folder` has less than `size` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise InsufficientSpace(f"{folder} has {free} bytes free, but {size} are needed: {remedy}")
