"""A reference model's log-probabilities, computed once and stored in the run's checkpoint folder.

    reference-<key>.json                    inputs and file name; exclusively created, so there is one
    reference-<key>.<epoch>-<number>.f64    documents little-endian float64: the sum over an answer's tokens

The key is a digest of everything that they depend on: weights, data, and which samples are used. Other
weights or data have another key, and are computed anew. Each generation writes its own file, and the record
names the file that counts: a writer that was frozen and resumes does no harm.
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

from footplate_contracts.base import WireMessage, digest
from footplate_contracts.reports import GenerationId
from footplate_trainer.checkpoint.store import CheckpointStore, storage_errors

_NUMBER: Final = np.dtype("<f8")
_NAME: Final = re.compile(r"reference-[0-9a-f]{16}\.(json|[0-9]+-[0-9]+\.f64)")


class LogProbabilityInputs(WireMessage):
    """The inputs that the log-probabilities depend on."""

    weights: str = Field(description="checksum of the reference model's weights")
    data: str = Field(description="digest of the shards")
    documents: int = Field(description="number of documents in the shards, two for each pair")
    context_length: int = Field(description="maximum length of a sample, in tokens")
    precision: str = Field(description="precision of the reference model's forward pass")
    overlong: str = Field(description="treatment of samples beyond that length")
    alpha: float | None = Field(None, description="alpha of the reference's adapters, if any: no weight")
    network: str | None = Field(None, description="digest of the reference's config, if of another folder")

    @property
    def key(self) -> str:
        """16 hex digits that identify the inputs."""
        return digest(self.to_json())[:16]


class LogProbabilitiesRecord(WireMessage):
    """Content of reference-<key>.json."""

    of: LogProbabilityInputs
    file: str
    sha256: str


@dataclass(frozen=True)
class StoredLogProbabilities:
    """Stored log-probabilities in the folder of `store`; every method may raise StorageError. For rank 0."""

    store: CheckpointStore

    def find(self, of: LogProbabilityInputs) -> NDArray[np.float64] | None:
        """Read the values of `of`, float64 [documents]; None where they are missing or damaged."""
        with self._errors():
            record = self._record(of)
            content = None if record is None else self._read(record.file)
        if record is None or content is None or hashlib.sha256(content).hexdigest() != record.sha256:
            return None
        values: NDArray[np.float64] = np.frombuffer(content, dtype=_NUMBER).astype(np.float64)
        return values if len(values) == of.documents else None

    def write(
        self, of: LogProbabilityInputs, values: NDArray[np.float64], generation: GenerationId
    ) -> NDArray[np.float64]:
        """Write `values` [documents]; return the values that count from now on.

        Where another generation wrote them first, return those.
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

    def delete_others(self, kept: list[LogProbabilityInputs]) -> None:
        """Delete the files of other weights or data, and those that no record names."""
        with self._errors():
            records = [record for of in kept if (record := self._record(of)) is not None]
            needed = {*map(_record_name, kept), *(record.file for record in records)}
            for name in self.store.folder.names():
                if _NAME.fullmatch(name) and name not in needed:
                    self.store.folder.delete(name)

    def _record(self, of: LogProbabilityInputs) -> LogProbabilitiesRecord | None:
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


def _record_name(of: LogProbabilityInputs) -> str:
    return f"reference-{of.key}.json"
