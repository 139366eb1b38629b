"""Folders and what is in them: which back-ups, how much room, and what is on the disk before work goes on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from footplate_api.backups import names
from footplate_api.errors import NoRoom


def listed(folder: Path) -> list[str]:
    """Names of the back-ups in `folder`, the newest first; raises OSError."""
    return names.complete(path.name for path in folder.iterdir())


def sync(folder: Path) -> None:
    """Returns once the names in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def created(file: Path) -> int:
    """A descriptor of a new file, which the group may read: the volume's."""
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)


def need_room(folder: Path, size: int, remedy: str) -> None:
    """Raises NoRoom where `size` bytes more do not fit into the volume of `folder`."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise NoRoom(f"{folder} has {free} bytes free, and {size} are needed: {remedy}")
