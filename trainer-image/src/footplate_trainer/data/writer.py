"""Writes a folder that is either whole or not there.

Everything goes into a hidden folder beside OUT and is synced; the last step is one rename. A writer that is
killed before that leaves OUT as it was, and the next attempt removes the remains. A locked file in the hidden
folder excludes a second writer; the lock ends with its owner. (A file, since NFS locks no folders.)

An object store has no folders and no rename: a reader could find an incomplete upload. There the manifest
goes last, and without one there are no shards.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from footplate_trainer.data.layout import MANIFEST_FILE, DataFile, ShardManifest, ShardRecord, TokenType
from footplate_trainer.errors import DataError, WriteInProgress
from footplate_trainer.storage import open_storage, sync_folder

OFFSET_DTYPE: Final = np.dtype("<u8")
VALUE_DTYPE: Final = np.dtype("<f4")
PROMPT_DTYPE: Final = np.dtype("<u4")


def token_dtype(token_type: TokenType) -> np.dtype[np.generic]:
    """Return the numpy type of one stored token."""
    return np.dtype("<u2" if token_type is TokenType.UINT16 else "<u4")


LOCK_FILE: Final = ".lock"

_NO_ROOM: Final = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file size limit is reached",
}


class ShardWriter:
    """A writer that cuts a stream of documents into shards of whole documents."""

    def __init__(self, folder: Path, token_type: TokenType, shard_tokens: int) -> None:
        self.folder = folder
        self.token_type = token_type
        self.shard_tokens = shard_tokens
        self.shards: list[ShardRecord] = []
        self._pending: list[NDArray[np.generic]] = []
        self._values: list[float] = []
        self._tokens = 0

    def add(self, ids: ArrayLike, value: float | None = None) -> None:
        """Add one document, [tokens], eos included; starts a new shard if it would overfill the current one.

        All documents have a `value`, or none has.
        """
        document = np.asarray(ids, dtype=token_dtype(self.token_type))
        self._make_room(len(document))
        self._append(document, value)

    def _make_room(self, tokens: int) -> None:
        if self._pending and self._tokens + tokens > self.shard_tokens:
            self.flush()

    def _append(self, document: NDArray[np.generic], value: float | None) -> None:
        self._pending.append(document)
        if value is not None:
            self._values.append(value)
        self._tokens += len(document)

    def flush(self) -> None:
        """Write the current shard, if it holds anything."""
        if not self._pending:
            return
        documents, file = len(self._pending), self.folder / f"shard-{len(self.shards):05d}.bin"
        offsets = np.zeros(documents + 1, dtype=OFFSET_DTYPE)
        np.cumsum([len(document) for document in self._pending], out=offsets[1:])
        tokens = write_file(file, [part.data for part in self._pending])
        self.shards.append(
            ShardRecord(
                **tokens.model_dump(),
                tokens=self._tokens,
                documents=documents,
                offsets=write_file(file.with_suffix(".offsets"), [offsets.data]),
                values=self._write_values(file.with_suffix(".values")) if self._values else None,
                **self._write_beside(file),
            )
        )
        self._pending, self._values, self._tokens = [], [], 0

    def _write_beside(self, file: Path) -> dict[str, DataFile]:
        """Write the further files of a shard; return them by field of its record."""
        return {}

    def _write_values(self, file: Path) -> DataFile:
        assert len(self._values) == len(self._pending), "either all documents have a value, or none"
        return write_file(file, [np.array(self._values, dtype=VALUE_DTYPE).data])


def write_file(path: Path, parts: Sequence[bytes | memoryview]) -> DataFile:
    """Write and sync `path`; return its record."""
    digest = hashlib.sha256()
    size = 0
    with path.open("xb") as file:
        for part in parts:
            size += file.write(part)
            digest.update(part)
        file.flush()
        os.fsync(file.fileno())
    return DataFile(file=path.name, bytes=size, sha256=digest.hexdigest())


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside `out` that is renamed to `out` when the block ends without error.

    Raises ValueError when `out` may not be written, WriteInProgress while another process writes it, and
    DataError when the disk is full.
    """
    check_free(out)
    partial = out.parent / f".{out.name}.partial"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir(exist_ok=True)
        with _locked(partial / LOCK_FILE, out), ExitStack() as on_error:
            on_error.callback(shutil.rmtree, partial, ignore_errors=True)
            _clear(partial)
            yield partial
            sync_folder(partial)
            partial.rename(out)
            # Last, so that whoever waits for this lock finds the folder gone.
            (out / LOCK_FILE).unlink()
            sync_folder(out.parent)
            on_error.pop_all()
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise DataError(f"{out}: {_NO_ROOM[error.errno]}; nothing was written there") from None


def write_remote(uri: str, write: Callable[[Path], ShardManifest]) -> ShardManifest:
    """Write the shards to a new local folder with `write`, and upload them to `uri`.

    ValueError for a URI with an unknown scheme or with objects below it, OSError when the store refuses. The
    remains of a failed attempt have no manifest.
    """
    storage = open_storage(uri)
    if storage.list():
        raise ValueError(f"OUT {uri} is not empty; remove its files or pass another name")
    return overwrite_remote(uri, write)


def overwrite_remote(
    uri: str, write: Callable[[Path], ShardManifest], sent: Callable[[], None] = lambda: None
) -> ShardManifest:
    """Write and upload as `write_remote` does, over the files of an earlier attempt with the same content.

    `sent` is called after each file.
    """
    storage = open_storage(uri)
    with tempfile.TemporaryDirectory(prefix="footplate-pack-") as scratch:
        folder = Path(scratch) / "shards"
        manifest = write(folder)
        for name in (*(record.file for record in manifest.files()), MANIFEST_FILE):
            storage.upload(folder / name, name)
            sent()
    return manifest


def check_free(out: Path) -> None:
    """Raise ValueError if no new folder can be written at `out`."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ValueError(f"OUT {out} is a file or a link; pass a folder that does not exist yet")
    if out.is_dir() and any(out.iterdir()):
        raise ValueError(f"OUT {out} is not empty; remove it or pass another name")
    if out.is_mount() or not out.name:
        raise ValueError(f"OUT {out} cannot be replaced; pass a folder inside it")


@contextmanager
def _locked(path: Path, out: Path) -> Iterator[None]:
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The other writer may have moved it to OUT between our open and our lock.
            mine = path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())
        except BlockingIOError:
            mine = False
        if not mine:
            raise WriteInProgress(f"OUT {out} is being written by another process; wait for it")
        yield


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != LOCK_FILE:
            path.unlink()
