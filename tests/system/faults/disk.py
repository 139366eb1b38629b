"""A small disk under one run's checkpoints, which can be frozen and filled.

A file system of its own in a file of this machine, mounted before the run's pods start and so seen by
all of them. Frozen, it lets nobody who writes go on, nor be killed.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from cluster.errors import ClusterError
from cluster.machine import shell

SIZE: Final = 256 * 2**20  # bytes
_FILLER: Final = "filler"


class Disk:
    """Mounted on a folder until it is removed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        handle, name = tempfile.mkstemp(prefix="footplate-disk-")
        os.close(handle)
        self._image = Path(name)
        os.truncate(self._image, SIZE)
        shell.run(["mkfs.ext4", "-q", "-m", "0", self._image])
        folder.mkdir(parents=True, exist_ok=True)
        shell.run(["mount", "-o", "loop", self._image, folder])
        folder.chmod(0o777)
        folder.parent.chmod(0o777)

    def freeze(self) -> None:
        """Whoever writes waits, however long it takes."""
        shell.run(["fsfreeze", "--freeze", self._folder])

    def thaw(self) -> None:
        """Undoes `freeze`."""
        shell.run(["fsfreeze", "--unfreeze", self._folder])

    def fill(self) -> None:
        """Leave no byte."""
        with (self._folder / _FILLER).open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(2**20))

    def empty(self) -> None:
        """Undoes `fill`."""
        (self._folder / _FILLER).unlink(missing_ok=True)

    def remove(self) -> None:
        """Unmount it, as soon as nobody looks at it any more, and forget it."""
        with suppress(ClusterError):  # it was never frozen, or has been thawed
            self.thaw()
        shell.run(["umount", "--lazy", self._folder])
        self._image.unlink(missing_ok=True)
