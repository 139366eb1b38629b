"""Lock that refuses a second process on one SQLite file before that opens it.

A write-ahead log needs memory that the processes of one machine share. Two pods on two nodes have no such
memory, and on a volume that both mount each overwrites the other's writes. The lock is the kernel's, on a
file beside the database: it ends with the process, however that ends.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import make_url

_SUFFIX: Final = ".lock"  # never deleted: whoever waits for it would lock a file that nobody else finds
_LONGEST: Final = 200  # bytes that are read of who holds it


@contextmanager
def sole_writer(url: str) -> Iterator[None]:
    """Lock the SQLite file of `url` while the block runs; do nothing for PostgreSQL.

    Raises ValueError where another process holds the lock, or the file system has no locks.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        yield
        return
    file = Path(parsed.database).resolve()  # by whatever name it is reached
    descriptor = _locked(file, file.with_name(file.name + _SUFFIX))
    try:
        yield
    finally:
        os.close(descriptor)


def _locked(file: Path, beside: Path) -> int:
    """Lock the file `beside`; return its open descriptor."""
    try:
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ValueError(
            f"FOOTPLATE_DATABASE_URL: {beside} cannot be opened ({error.strerror}); name a file on a volume"
            " that this program may write to"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, _LONGEST, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise ValueError(
            f"FOOTPLATE_DATABASE_URL: {file} is in use by another process ({holder or 'unknown'}), and a"
            " SQLite file has one writer; stop that process first, or use PostgreSQL for several replicas"
        ) from None
    except OSError as error:
        os.close(descriptor)
        raise ValueError(
            f"FOOTPLATE_DATABASE_URL: {beside} cannot be locked ({error.strerror}) against a second process;"
            " name a file on a volume whose file system supports locks, or use PostgreSQL"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    return descriptor
