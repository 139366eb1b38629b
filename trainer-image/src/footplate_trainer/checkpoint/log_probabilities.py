"""A reference's log-probabilities, computed once and kept in a run's checkpoint folder.

    reference-<key>.json                    what is known, and of what: exclusively created, so there is one
    reference-<key>.<epoch>-<number>.f64    documents little-endian float64: the sum over an answer's tokens

The key is a digest of all that they depend on: weights, data, and what of it is kept. Other weights or data
have another key, and are computed anew. Each generation writes a file of its own, and the record names the
one that counts: a writer that was frozen and wakes up does no harm.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from footplate_contracts.model import Report, digest
from footplate_contracts.reports import GenerationId
from footplate_trainer.checkpoint.store import CheckpointStore, storage_errors

_NUMBER: Final = np.dtype("<f8")
_NAME: Final = re.compile(r"reference-[0-9a-f]{16}\.(json|[0-9]+-[0-9]+\.f64)")


class LogProbabilitiesOf(Report):
    """What the numbers are of."""

    weights: str = Field(description="checksum of the reference's")
    data: str = Field(description="digest of the shards")
    documents: int = Field(description="in the shards, two for each pair")
    context_length: int = Field(description="of which samples are at most")
    precision: str = Field(description="in which the reference was computed")
    overlong: str = Field(description="what becomes of samples beyond that length")
    alpha: float | None = Field(None, description="of the reference's adapters, if it has any: no weight")
    network: str | None = Field(None, description="digest of the reference's, where that is another folder's")

    @property
    def key(self) -> str:
        """16 hex digits that nothing else has."""
        return digest(self.to_json())[:16]


class LogProbabilitiesRecord(Report):
    """reference-<key>.json."""

    of: LogProbabilitiesOf
    file: str
    sha256: str


@dataclass(frozen=True)
class KnownLogProbabilities:
    """Those in the folder of `store`; every method may raise StorageError. For rank 0."""

    store: CheckpointStore

    def find(self, of: LogProbabilitiesOf) -> NDArray[np.float64] | None:
        """float64 [documents]; None where there are none of `of`, or they are not what was written."""
        with self._errors():
            record = self._record(of)
            content = None if record is None else self._read(record.file)
        if record is None or content is None or hashlib.sha256(content).hexdigest() != record.sha256:
            return None
        values: NDArray[np.float64] = np.frombuffer(content, dtype=_NUMBER).astype(np.float64)
        return values if len(values) == of.documents else None

    def keep(
        self, of: LogProbabilitiesOf, values: NDArray[np.float64], generation: GenerationId
    ) -> NDArray[np.float64]:
        """Write `values` [documents] and forget those of others; what counts from now on.

        Where another generation was first, that is what it wrote.
        """
        content = values.astype(_NUMBER).tobytes()
        file = f"reference-{of.key}.{generation.epoch}-{generation.number}.f64"
        record = LogProbabilitiesRecord(of=of, file=file, sha256=hashlib.sha256(content).hexdigest())
        with self._errors():
            with self.store.folder.open_write(file) as stream:
                stream.write(content)
            text = record.model_dump_json(by_alias=True).encode()
            if self.store.folder.create(_record_name(of), text):
                return values
            known = self.find(of)
            if known is not None:
                return known
            # What was there is damaged: its record goes, and this one takes its place.
            self.store.folder.delete(_record_name(of))
            self.store.folder.create(_record_name(of), text)
        return values

    def forget_others(self, kept: list[LogProbabilitiesOf]) -> None:
        """Remove what is of other weights or data, and what generations wrote in vain."""
        with self._errors():
            records = [record for of in kept if (record := self._record(of)) is not None]
            needed = {*map(_record_name, kept), *(record.file for record in records)}
            for name in self.store.folder.names():
                if _NAME.fullmatch(name) and name not in needed:
                    self.store.folder.delete(name)

    def _record(self, of: LogProbabilitiesOf) -> LogProbabilitiesRecord | None:
        text = self._read(_record_name(of))
        try:
            record = (
                None if text is None else LogProbabilitiesRecord.model_validate_json(text, extra="ignore")
            )
        except ValidationError:
            return None  # torn, as one is that was killed between its creation and its first byte
        return record if record is not None and record.of == of and _NAME.fullmatch(record.file) else None

    def _read(self, name: str) -> bytes | None:
        try:
            return self.store.folder.read(name)
        except FileNotFoundError:
            return None

    def _errors(self) -> AbstractContextManager[None]:
        return storage_errors(f"checkpoint folder {self.store.uri}")


def _record_name(of: LogProbabilitiesOf) -> str:
    return f"reference-{of.key}.json"
