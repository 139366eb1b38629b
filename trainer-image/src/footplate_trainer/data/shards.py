"""Reads packed token shards, and detects damaged ones when they are opened.

A bad shard found at step 40,000 costs a night; a bad shard that nobody finds costs the model. Sizes are
compared when the folder is opened. Checksums take as long as reading everything, so the ranks share the files
out between them: rank r of n verifies every n-th, and they exchange the result. Files from an object store
are verified as they arrive.

Shards are memory-mapped: the ranks of a node share the page cache.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from footplate_planning.span_corruption import SENTINELS
from footplate_trainer.data.check import (
    check_sizes,
    data_read_error,
    open_data_storage,
    read_manifest,
    verify_checksum,
)
from footplate_trainer.data.layout import (
    MANIFEST_FILE,
    RecordKind,
    ShardManifest,
    SpecialIds,
    SpecialTokenRole,
)
from footplate_trainer.data.order import Int64s
from footplate_trainer.data.writer import OFFSET_DTYPE, VALUE_DTYPE, token_dtype
from footplate_trainer.errors import DataCorrupt, DataError, UserMistake
from footplate_trainer.node_cache import (
    CachedCopy,
    CacheError,
    CacheSettings,
    CopyDiffers,
    RemoteFile,
    fetch,
    key_of,
    settings_from,
)
from footplate_trainer.storage import LocalStorage, Storage

_CALLED = {
    **{role: f"a token for {role}" for role in SpecialTokenRole},
    SpecialTokenRole.SENTINELS: f"{SENTINELS} sentinels",
}


class TokenShards:
    """All shards as one stream of tokens, with the ends of its documents."""

    def __init__(self, uri: str, folder: Path, manifest: ShardManifest, copy: CachedCopy | None) -> None:
        self.uri = uri
        self.folder = folder  # on this machine
        self._copy = copy  # in use as long as we are
        self.manifest = manifest
        self._tokens = [
            memory_map(folder / shard.file, token_dtype(manifest.dtype), shard.tokens)
            for shard in manifest.shards
        ]
        self._offsets = [
            memory_map(folder / shard.offsets.file, OFFSET_DTYPE, shard.documents + 1)
            for shard in manifest.shards
        ]
        self._values = [
            memory_map(folder / shard.values.file, VALUE_DTYPE, shard.documents)
            for shard in manifest.shards
            if shard.values
        ]
        # [shards + 1]: the first token and the first document of each shard
        self._first_token = _cumulative([shard.tokens for shard in manifest.shards])
        self._first_document = _cumulative([shard.documents for shard in manifest.shards])

    @classmethod
    def open(
        cls,
        uri: str,
        *,
        verify: tuple[int, int] | None = None,
        local_rank: int = 0,
        environment: Mapping[str, str] = os.environ,
    ) -> Self:
        """Open the shards at `uri`; remote ones are first copied to the cache that `environment` names.

        Sizes are always checked; `verify=(rank, world_size)` also reads this rank's share of the files and
        compares checksums. Raises DataMissing, DataCorrupt, DataError.
        """
        storage = open_data_storage(uri)
        text, manifest = read_manifest(storage)
        if isinstance(storage, LocalStorage):
            check_sizes(storage, manifest)
            folder, copy = storage.folder, None
        else:
            copy = _copied(storage, text, manifest, settings_from(environment), local_rank)
            folder, verify = copy.folder, None
        shards = cls(uri, folder, manifest, copy)
        for shard, offsets in zip(manifest.shards, shards._offsets, strict=True):
            if offsets[0] != 0 or offsets[-1] != shard.tokens:
                raise DataCorrupt.at(
                    str(folder / shard.offsets.file),
                    "range",
                    expected=f"0 … {shard.tokens}",
                    found=f"{offsets[0]} … {offsets[-1]}",
                )
        if verify is not None:
            shards.verify(*verify)
        return shards

    @property
    def format(self) -> RecordKind:
        """The format of the packed records."""
        return self.manifest.format

    @property
    def tokens(self) -> int:
        """The number of tokens."""
        return self.manifest.tokens

    @property
    def documents(self) -> int:
        """The number of documents."""
        return self.manifest.documents

    @property
    def vocabulary_size(self) -> int:
        """The largest token id + 1; the model's must be at least this."""
        return self.manifest.vocabulary_size

    @property
    def special(self) -> SpecialIds:
        """The reserved ids, as far as the tokenizer has them; callers that require one call `require_id`."""
        return self.manifest.special_ids

    def require_id(self, role: SpecialTokenRole, field: str) -> int:
        """Return the id of `role`, without which `field` cannot work; UserMistake if there is none."""
        return self.require_ids(role, field)[0]

    def require_ids(self, role: SpecialTokenRole, field: str) -> list[int]:
        """Return all ids of `role`: one, or every sentinel; UserMistake if there is none."""
        ids = self.special.of(role)
        if not ids:
            otherwise = (
                "" if role is SpecialTokenRole.SENTINELS else f" (--special-token {role}=TOKEN if it has one)"
            )
            raise UserMistake(
                f"{field} needs {_CALLED[role]}, and the tokenizer of the shards in {self.uri} has none; "
                f"pack them with --reserve {role}{otherwise}; for a model of initFrom also set "
                "model.resizeTokenEmbeddings"
            )
        return ids

    @property
    def tokenizer_path(self) -> Path:
        """The path of the tokenizer that encoded the shards."""
        return self.folder / self.manifest.tokenizer.file

    @property
    def template(self) -> str | None:
        """The chat template that was applied; None if there was none."""
        record = self.manifest.samples
        if record is None or record.template is None:
            return None
        return (self.folder / record.template.file).read_bytes().decode()

    def verify(self, rank: int, world_size: int) -> None:
        """Compare the checksums of every `world_size`-th file.

        Over all ranks each file is read once. Raises DataCorrupt at the first that differs.
        """
        for record in self.manifest.files()[rank::world_size]:
            path = self.folder / record.file
            try:
                verify_checksum(path, record)
            except OSError as error:
                raise DataError(f"{path}: cannot read ({error.strerror})") from None

    def read(self, start: int, stop: int) -> Int64s:
        """Return the tokens at global positions [start, stop) as int64 [stop - start], a copy."""
        if not 0 <= start <= stop <= self.tokens:
            raise IndexError(f"tokens {start} … {stop} of {self.tokens}")
        out = np.empty(stop - start, dtype=np.int64)
        for shard, first, last in _parts(self._first_token, start, stop):
            base = int(self._first_token[shard])
            out[first - start : last - start] = self._tokens[shard][first - base : last - base]
        return out

    def document_ends(self, start: int, stop: int) -> Int64s:
        """Return the ends e of documents, start < e < stop, where another begins: global, int64 [k]."""
        found = [np.empty(0, dtype=np.int64)]
        for shard, first, last in _parts(self._first_token, start, stop):
            base = int(self._first_token[shard])
            offsets = self._offsets[shard]
            # A shard's start is where the document before it ended, so offset 0 counts like any other.
            low = int(np.searchsorted(offsets, max(first, start + 1) - base, side="left"))
            high = int(np.searchsorted(offsets[:-1], last - base, side="left"))
            found.append(offsets[low:high].astype(np.int64) + base)
        return np.concatenate(found)

    def document(self, index: int, most: int | None = None) -> Int64s:
        """Return the tokens of document `index`, at most the first `most`: int64 [k].

        A text that is cut has its eos only if the caller appends it.
        """
        start, stop = self.document_span(index)
        return self.read(start, stop if most is None else min(stop, start + most))

    def value(self, index: int) -> float:
        """Return the value of document `index`, such as the target of a regression."""
        shard, within = self.locate_document(index)
        return float(self._values[shard][within])

    def locate_document(self, index: int) -> tuple[int, int]:
        """Return the shard of document `index`, and the document's index in it."""
        shard = int(np.searchsorted(self._first_document, index, side="right")) - 1
        return shard, index - int(self._first_document[shard])

    def first_token(self, shard: int) -> int:
        """Return the global position of a shard's first token."""
        return int(self._first_token[shard])

    def document_lengths(self) -> Int64s:
        """Return the number of tokens of each document: int64 [documents]."""
        lengths = [np.diff(offsets.astype(np.int64)) for offsets in self._offsets]
        return np.concatenate([np.empty(0, dtype=np.int64), *lengths])

    def document_span(self, index: int) -> tuple[int, int]:
        """Return the global token positions [start, stop) of document `index`."""
        if not 0 <= index < self.documents:
            raise IndexError(f"document {index} of {self.documents}")
        shard, within = self.locate_document(index)
        base = int(self._first_token[shard])
        offsets = self._offsets[shard]
        return base + int(offsets[within]), base + int(offsets[within + 1])


def _copied(
    storage: Storage, text: bytes, manifest: ShardManifest, settings: CacheSettings, rank: int
) -> CachedCopy:
    """Return the node's copy of the manifest, whose bytes are `text`, and of all files that it names."""
    files = [RemoteFile(record.file, record.bytes, record.sha256) for record in manifest.files()]
    try:
        return fetch(storage, key_of(text), files, settings, rank, {MANIFEST_FILE: text})
    except CopyDiffers as error:
        raise DataCorrupt.at(error.place, error.what, expected=error.expected, found=error.found) from None
    except CacheError as error:
        raise DataError(str(error)) from None
    except OSError as error:
        raise data_read_error(storage.uri, error) from None


def _parts(firsts: Int64s, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield (shard, first, last) for each shard that overlaps [start, stop), in global positions."""
    shard = int(np.searchsorted(firsts, start, side="right")) - 1
    while start < stop:
        last = min(stop, int(firsts[shard + 1]))
        if last > start:
            yield shard, start, last
        start, shard = max(start, last), shard + 1


def _cumulative(counts: list[int]) -> Int64s:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(np.array(counts, dtype=np.int64))])


def memory_map(path: Path, dtype: np.dtype[np.generic], count: int) -> NDArray[np.generic]:
    """Memory-map `count` numbers of a file; DataError when it cannot be read."""
    if count == 0:
        return np.empty(0, dtype=dtype)  # an empty file cannot be mapped
    try:
        # A plain ndarray over the mapping: slicing a memmap costs ten times as much.
        return np.asarray(np.memmap(path, dtype=dtype, mode="r", shape=(count,)))
    except OSError as error:
        raise data_read_error(str(path), error) from None
