"""Samples of conversations in shards: writer and reader.

A sample is one document, or in a preference two: the chosen answer and the rejected one. Its tokens are
stored as a model reads them; the mask of learnt tokens, the prompt's length, the value and the columns are
stored beside them (`layout`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from footplate_contracts.v1alpha1.data import OverlongPolicy
from footplate_trainer.data.layout import DataFile, ShardRecord, TokenType
from footplate_trainer.data.order import Int64s
from footplate_trainer.data.shards import TokenShards, memory_map
from footplate_trainer.data.writer import OFFSET_DTYPE, PROMPT_DTYPE, ShardWriter, token_dtype, write_file
from footplate_trainer.errors import DataCorrupt

Bools = NDArray[np.bool_]
_BYTE: Final = np.dtype("u1")
_NO_COLUMNS: Final = b"{}"


@dataclass(frozen=True)
class SampleDocument:
    """A document of a sample, with its mask of learnt tokens and its prompt's length."""

    tokens: NDArray[np.integer[Any]]  # [n]
    learnt: Bools | None = None  # [n]; None: of a prompt, of which nothing is learnt
    prompt: int = 0  # tokens before the first that answers; of a prompt all
    value: float | None = None  # the margin or label


@dataclass(frozen=True)
class StoredSample:
    """Documents that belong together, and the other columns of their row."""

    documents: tuple[SampleDocument, ...]
    columns: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        """Return the number of tokens in all documents."""
        return sum(len(document.tokens) for document in self.documents)


class SampleWriter(ShardWriter):
    """A writer that cuts a stream of samples into shards of whole samples."""

    def __init__(self, folder: Path, token_type: TokenType, shard_tokens: int) -> None:
        super().__init__(folder, token_type, shard_tokens)
        self._learnt: list[Bools] = []
        self._prompts: list[int] = []
        self._columns: list[bytes] = []  # as JSON: of many samples parsed ones take far more

    def add_sample(self, sample: StoredSample) -> None:
        """Add a sample; starts a new shard where the sample would overfill the current one."""
        self._make_room(len(sample))
        for document in sample.documents:
            self._append(document.tokens.astype(token_dtype(self.token_type)), document.value)
            if document.learnt is not None:
                self._learnt.append(document.learnt)
                self._prompts.append(document.prompt)
        self._columns.append(_as_json(sample.columns or {}))

    def _write_beside(self, file: Path) -> dict[str, DataFile]:
        written = {}
        if self._learnt:
            bits = np.packbits(np.concatenate(self._learnt), bitorder="little")
            written["learnt"] = write_file(file.with_suffix(".learnt"), [bits.data])
            prompts = np.array(self._prompts, dtype=PROMPT_DTYPE)
            written["prompts"] = write_file(file.with_suffix(".prompts"), [prompts.data])
        if any(columns != _NO_COLUMNS for columns in self._columns):
            offsets = np.zeros(len(self._columns) + 1, dtype=OFFSET_DTYPE)
            np.cumsum([len(columns) for columns in self._columns], out=offsets[1:])
            written["columns"] = write_file(file.with_suffix(".columns"), self._columns)
            written["columns_offsets"] = write_file(file.with_suffix(".columns-offsets"), [offsets.data])
        self._learnt, self._prompts, self._columns = [], [], []
        return written


class SampleShards:
    """The samples of open shards, by number."""

    def __init__(self, shards: TokenShards) -> None:
        """Open the files beside the tokens; DataCorrupt where they do not go together."""
        assert shards.format.is_conversational, shards.format
        self.shards = shards
        self.documents_per_sample = shards.format.documents_per_sample
        self._beside = [_Beside.open(shards.folder, shard) for shard in shards.manifest.shards]

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.shards.documents // self.documents_per_sample

    @property
    def column_names(self) -> frozenset[str]:
        """The names of all columns that any sample has; reads the columns of each."""
        of_shard = (
            beside.row(row) or {}
            for beside in self._beside
            for row in range(0 if beside.offsets is None else len(beside.offsets) - 1)
        )
        return frozenset().union(*of_shard)

    def __getitem__(self, number: int) -> StoredSample:
        """Return sample `number`; tokens are int64."""
        first = number * self.documents_per_sample
        documents = tuple(self._document(first + side) for side in range(self.documents_per_sample))
        shard, within = self.shards.locate_document(first)
        return StoredSample(documents, self._beside[shard].row(within // self.documents_per_sample))

    @cached_property
    def lengths(self) -> Int64s:
        """The number of tokens of each sample: int64 [n]."""
        lengths: Int64s = self.shards.document_lengths().reshape(-1, self.documents_per_sample).sum(axis=1)
        return lengths

    def _document(self, index: int) -> SampleDocument:
        tokens = self.shards.document(index)
        shard, within = self.shards.locate_document(index)
        beside, record = self._beside[shard], self.shards.manifest.shards[shard]
        value = self.shards.value(index) if record.values else None
        if beside.prompts is None:
            return SampleDocument(tokens, None, len(tokens), value)
        start = self.shards.document_span(index)[0] - self.shards.first_token(shard)
        return SampleDocument(tokens, beside.learnt(start, len(tokens)), int(beside.prompts[within]), value)


@dataclass(frozen=True)
class FittingSamples:
    """The samples that fit the context, and their lengths after cutting."""

    numbers: Int64s  # [k], ascending
    lengths: Int64s  # [k]: tokens that are kept
    cut: int
    dropped: int


def select_fitting(samples: SampleShards, size: int, overlong: OverlongPolicy) -> FittingSamples:
    """Select the samples that fit into `size` tokens, after cutting long ones if `overlong` is cut.

    ValueError if `overlong` refuses a sample.
    """
    numbers, lengths = np.arange(len(samples), dtype=np.int64), samples.lengths.copy()
    too_long = np.flatnonzero(lengths > size)
    if too_long.size and overlong is OverlongPolicy.REFUSE:
        raise ValueError(
            f"{samples.shards.uri} has {too_long.size} samples of more than contextLength {size} tokens, the "
            f"longest with {int(lengths.max())}; raise it, or pack with --context-length and --overlong"
        )
    for number in too_long:
        fits = overlong is OverlongPolicy.CUT and samples.documents_per_sample == 1
        lengths[number] = whole_turns_length(samples[int(number)].documents[0], size) if fits else 0
    kept = lengths > 0
    dropped = int(np.count_nonzero(~kept))
    return FittingSamples(numbers[kept], lengths[kept], len(too_long) - dropped, dropped)


def whole_turns_length(document: SampleDocument, most: int) -> int:
    """Return the length of a sample cut after its last whole turn within `most` tokens; 0 if none fits.

    A turn ends with the same token as the sample's last turn, and that is learnt: cut in the middle of a
    turn, a sample would teach an answer without its end. A template may leave parts of a turn out of what is
    learnt, so not each run of learnt tokens is a turn.
    """
    learnt = document.learnt
    if learnt is None or not learnt.any():
        return 0
    end = document.tokens[np.flatnonzero(learnt)[-1]]
    head = learnt[:most]
    behind = np.zeros_like(head)
    following = learnt[1 : most + 1]
    behind[: len(following)] = following
    ends = np.flatnonzero(head & ~behind & (document.tokens[:most] == end))
    return int(ends[-1]) + 1 if ends.size else 0


@dataclass(frozen=True)
class _Beside:
    """The files beside the tokens of one shard."""

    bits: NDArray[np.generic] | None
    prompts: NDArray[np.generic] | None
    columns: NDArray[np.generic] | None
    offsets: NDArray[np.generic] | None

    @classmethod
    def open(cls, folder: Path, shard: ShardRecord) -> _Beside:
        def found(file: DataFile | None, dtype: np.dtype[np.generic]) -> NDArray[np.generic] | None:
            return (
                None if file is None else memory_map(folder / file.file, dtype, file.bytes // dtype.itemsize)
            )

        beside = cls(
            found(shard.learnt, _BYTE),
            found(shard.prompts, PROMPT_DTYPE),
            found(shard.columns, _BYTE),
            found(shard.columns_offsets, OFFSET_DTYPE),
        )
        if beside.offsets is not None and beside.columns is not None:
            assert shard.columns_offsets is not None
            if beside.offsets[0] != 0 or beside.offsets[-1] != len(beside.columns):
                raise DataCorrupt.at(
                    str(folder / shard.columns_offsets.file),
                    "range",
                    expected=f"0 … {len(beside.columns)}",
                    found=f"{beside.offsets[0]} … {beside.offsets[-1]}",
                )
        return beside

    def learnt(self, start: int, count: int) -> Bools:
        """Return the mask of `count` learnt tokens from position `start` of the shard on."""
        assert self.bits is not None
        first = start // 8
        bits = np.unpackbits(self.bits[first : (start + count + 7) // 8].astype(np.uint8), bitorder="little")
        return bits[start - 8 * first :][:count].astype(bool)

    def row(self, number: int) -> Mapping[str, Any] | None:
        """Return the columns of the shard's sample `number`; None if the shard has none."""
        if self.columns is None or self.offsets is None:
            return None
        text = self.columns[int(self.offsets[number]) : int(self.offsets[number + 1])].tobytes()
        content: Mapping[str, Any] = json.loads(text)
        return content


def _as_json(columns: Mapping[str, Any]) -> bytes:
    # What parquet has and JSON has not, such as times, is kept as its text.
    return json.dumps(columns, ensure_ascii=False, separators=(",", ":"), default=str).encode()
