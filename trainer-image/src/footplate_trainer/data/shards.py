"""Reads packed token shards, and finds out at once when they are not whole.

A bad shard that is met at step 40,000 costs a night; one that is met silently
costs the model. Sizes are compared when the folder is opened. Checksums take
as long as reading everything, so the ranks share the files out between them:
rank r of n verifies every n-th, and they exchange the verdict.

Shards are mapped, not read: the ranks of a node share the page cache.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from footplate_trainer.data.errors import DataCorrupt, DataError, DataMissing
from footplate_trainer.data.layout import (
    MANIFEST_FILE,
    OFFSET_DTYPE,
    FileRecord,
    ShardManifest,
    SpecialIds,
)

__all__ = ["DataCorrupt", "DataError", "DataMissing", "TokenShards", "local_folder"]

Int64s = NDArray[np.int64]
_PACK = "footplate-trainer pack INPUT… OUT --vocabulary-size N"


class TokenShards:
    """One stream of tokens over all shards, and where its documents end."""

    def __init__(self, folder: Path, manifest: ShardManifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._tokens = [
            _mapped(folder / shard.file, manifest.dtype.numpy, shard.tokens) for shard in manifest.shards
        ]
        self._offsets = [
            _mapped(folder / shard.offsets.file, OFFSET_DTYPE, shard.documents + 1)
            for shard in manifest.shards
        ]
        # [shards + 1]: the first token and the first document of each shard
        self._first_token = _cumulative([shard.tokens for shard in manifest.shards])
        self._first_document = _cumulative([shard.documents for shard in manifest.shards])

    @classmethod
    def open(cls, uri: str, *, verify: tuple[int, int] | None = None) -> Self:
        """The shards in folder `uri`: a path or file:// URI.

        Sizes are always checked; `verify=(rank, world_size)` also reads this
        rank's share of the files and compares checksums. Raises DataMissing,
        DataCorrupt.
        """
        folder = local_folder(uri)
        manifest = _read_manifest(uri, folder)
        for record in _files(manifest):
            _check_size(folder, record)
        shards = cls(folder, manifest)
        for shard, offsets in zip(manifest.shards, shards._offsets, strict=True):
            if offsets[0] != 0 or offsets[-1] != shard.tokens:
                raise DataCorrupt(
                    str(folder / shard.offsets.file),
                    "range",
                    expected=f"0 … {shard.tokens}",
                    found=f"{offsets[0]} … {offsets[-1]}",
                )
        if verify is not None:
            shards.verify(*verify)
        return shards

    @property
    def tokens(self) -> int:
        """Tokens in all."""
        return self.manifest.tokens

    @property
    def documents(self) -> int:
        """Documents in all."""
        return self.manifest.documents

    @property
    def vocabulary_size(self) -> int:
        """Largest token id + 1; the model's must be at least this."""
        return self.manifest.vocabulary_size

    @property
    def special(self) -> SpecialIds:
        """The reserved ids."""
        return self.manifest.special_ids

    @property
    def tokenizer_path(self) -> Path:
        """The tokenizer the shards were written with."""
        return self.folder / self.manifest.tokenizer.file

    def verify(self, rank: int = 0, world_size: int = 1) -> int:
        """Compares the checksums of every `world_size`-th file; returns the bytes read.

        Over all ranks each file is read once. Raises DataCorrupt at the first that differs.
        """
        read = 0
        for record in list(_files(self.manifest))[rank::world_size]:
            path = self.folder / record.file
            try:
                with _open(path) as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise DataError(f"{path}: reading failed ({error.strerror})") from None
            if found != record.sha256:
                raise DataCorrupt(str(path), "sha256", expected=record.sha256, found=found)
            read += record.bytes
        return read

    def read(self, start: int, stop: int) -> Int64s:
        """Tokens at global positions [start, stop) as int64 [stop - start], a copy."""
        if not 0 <= start <= stop <= self.tokens:
            raise IndexError(f"tokens {start} … {stop} of {self.tokens}")
        out = np.empty(stop - start, dtype=np.int64)
        for shard, first, last in _parts(self._first_token, start, stop):
            base = int(self._first_token[shard])
            out[first - start : last - start] = self._tokens[shard][first - base : last - base]
        return out

    def document_ends(self, start: int, stop: int) -> Int64s:
        """Global positions e, start < e < stop, where a document has ended and another begins: int64 [k]."""
        found = [np.empty(0, dtype=np.int64)]
        for shard, first, last in _parts(self._first_token, start, stop):
            base = int(self._first_token[shard])
            offsets = self._offsets[shard]
            # A shard's start is where the document before it ended, so offset 0 counts like any other.
            low = int(np.searchsorted(offsets, max(first, start + 1) - base, side="left"))
            high = int(np.searchsorted(offsets[:-1], last - base, side="left"))
            found.append(offsets[low:high].astype(np.int64) + base)
        return np.concatenate(found)

    def document_span(self, index: int) -> tuple[int, int]:
        """Global token positions [start, stop) of document `index`."""
        if not 0 <= index < self.documents:
            raise IndexError(f"document {index} of {self.documents}")
        shard = int(np.searchsorted(self._first_document, index, side="right")) - 1
        within = index - int(self._first_document[shard])
        base = int(self._first_token[shard])
        offsets = self._offsets[shard]
        return base + int(offsets[within]), base + int(offsets[within + 1])


def local_folder(uri: str) -> Path:
    """The folder that `uri` names; DataMissing for a scheme that is not read yet."""
    parts = urlsplit(uri)
    if parts.scheme == "" or len(parts.scheme) == 1:
        return Path(uri)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    raise DataMissing(uri, f"scheme {parts.scheme!r} cannot be read", "give a mounted path or a file:/// URI")


def _parts(firsts: Int64s, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """(shard, first, last) for each shard that [start, stop) touches, in global positions."""
    shard = int(np.searchsorted(firsts, start, side="right")) - 1
    while start < stop:
        last = min(stop, int(firsts[shard + 1]))
        if last > start:
            yield shard, start, last
        start, shard = max(start, last), shard + 1


def _cumulative(counts: list[int]) -> Int64s:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(np.array(counts, dtype=np.int64))])


def _mapped(path: Path, dtype: np.dtype[np.generic], count: int) -> NDArray[np.generic]:
    if count == 0:
        return np.empty(0, dtype=dtype)  # an empty file cannot be mapped
    with _open(path) as file:
        # A plain ndarray over the mapping: slicing a memmap costs ten times as much.
        return np.asarray(np.memmap(file, dtype=dtype, mode="r", shape=(count,)))


def _files(manifest: ShardManifest) -> Iterator[FileRecord]:
    for shard in manifest.shards:
        yield shard
        yield shard.offsets
    yield manifest.tokenizer


def _check_size(folder: Path, record: FileRecord) -> None:
    path = folder / record.file
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        raise DataMissing(str(path), "the manifest names it, but it is not there", "restore it") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    if found != record.bytes:
        raise DataCorrupt(str(path), "size", expected=f"{record.bytes} bytes", found=f"{found} bytes")


def _open(path: Path) -> BufferedReader:
    try:
        return path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> DataMissing:
    return DataMissing(
        str(path), f"cannot be read ({error.strerror})", "check the volume and its permissions"
    )


def _read_manifest(uri: str, folder: Path) -> ShardManifest:
    path = folder / MANIFEST_FILE
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        what = f"has no {MANIFEST_FILE}" if folder.is_dir() else "there is no such folder"
        raise DataMissing(uri, what, f"write one with `{_PACK}`") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        return ShardManifest.from_json(json.loads(text))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or MANIFEST_FILE
        raise DataCorrupt(str(path), field, expected="a shard manifest", found=first["msg"]) from None
    except ValueError as error:
        raise DataCorrupt(str(path), "content", expected="JSON", found=str(error)) from None
