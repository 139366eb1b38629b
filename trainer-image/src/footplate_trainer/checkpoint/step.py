"""A step directory: reads its files and verifies them against the manifest.

Every reader of a checkpoint uses this class: a resume, a warm start, and the user's commands. Fields that a
later release added to the files are ignored, in the RunConfig too: that is read to continue from, and was
validated when it was a spec.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

from footplate_contracts.base import Contract
from footplate_contracts.runconfig import RunConfig
from footplate_trainer.checkpoint import layout
from footplate_trainer.checkpoint.layout import FORMAT, CheckpointFile, Manifest, ManifestHeader
from footplate_trainer.checkpoint.store import CheckpointSource, storage_errors
from footplate_trainer.checkpoint.training_state import TrainingState, release_name
from footplate_trainer.errors import CheckpointDamaged, CheckpointError
from footplate_trainer.node_cache import CopyDiffers
from footplate_trainer.storage import is_local, join

Record = TypeVar("Record", bound=Contract)


@dataclass(frozen=True)
class StepCheckpoint:
    """A step directory, committed or not; every method may raise StorageError."""

    store: CheckpointSource  # the folder around it
    directory: str

    @property
    def name(self) -> str:
        """The path or URI of the directory, for messages."""
        return self.store.directory_uri(self.directory)

    def read(self, kind: type[Record], file: str) -> Record:
        """Parse a JSON file, ignoring the fields that this release does not know.

        CheckpointDamaged when it is missing or torn.
        """
        content = self.read_bytes(file)
        try:
            return kind.model_validate_json(content, extra="ignore")
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            what = f"{field}: {first['msg']}" if field else first["msg"]
            raise CheckpointDamaged(f"{join(self.name, file)} is damaged: {what}") from None

    def read_bytes(self, file: str) -> bytes:
        """Read a file; CheckpointDamaged when it is missing."""
        with self._errors():
            try:
                return self.store.folder.read(f"{self.directory}/{file}")
            except FileNotFoundError:
                raise CheckpointDamaged(f"{join(self.name, file)} is missing") from None

    def config(self) -> RunConfig:
        """Read the RunConfig that the run had when it wrote this checkpoint."""
        return self.read(RunConfig, layout.RUN_FILE)

    def state(self) -> TrainingState:
        """Read the training state."""
        return self.read(TrainingState, layout.STATE_FILE)

    def manifest(self) -> Manifest:
        """Read the manifest.

        CheckpointDamaged when it is missing or torn, CheckpointError when its format is not that of this
        release: then nothing else in the directory may be read either.
        """
        header = self.read(ManifestHeader, layout.MANIFEST_FILE)
        if header.format != FORMAT:
            raise CheckpointError(self._refusal(header))
        return self.read(Manifest, layout.MANIFEST_FILE)

    def has_manifest(self) -> bool:
        """Return whether there is a manifest, torn or whole."""
        return self._has(layout.MANIFEST_FILE)

    def damage(self, record: CheckpointFile) -> str | None:
        """Describe the damage of one of the files; None when it is whole."""
        name = f"{self.directory}/{record.file}"
        with self._errors():
            try:
                size = self.store.folder.size(name)
                if size != record.bytes:
                    return f"{name} has {size} bytes, should have {record.bytes}"
                with self.store.folder.open_read(name) as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
            except FileNotFoundError:
                return f"{name} is missing"
            except CopyDiffers as error:
                return str(error)
        if found != record.sha256:
            return f"{name} has SHA-256 {found[:12]}…, should have {record.sha256[:12]}…"
        return None

    def first_damage(self, part: int = 0, parts: int = 1) -> str | None:
        """Describe the first damage among every `parts`-th file from the `part`-th; None when there is none.

        CheckpointError when the directory has a format that this release does not read.
        """
        try:
            files = self.manifest().files
        except CheckpointDamaged as error:
            return str(error)
        return next((damage for record in files[part::parts] if (damage := self.damage(record))), None)

    def first_missing(self, records: Iterable[CheckpointFile]) -> str | None:
        """Describe the first file of other ranks that is missing here; None where all ranks share the folder.

        All ranks share a bucket. Ranks on several nodes may use the same path and have a disk each.
        """
        if not is_local(self.store.uri):
            return None
        return next(
            (
                f"{self.name}/{record.file}, written by another rank, is missing here: the ranks do not "
                f"share {self.store.uri}; mount a shared volume"
                for record in records
                if not self._has(record.file)
            ),
            None,
        )

    def _has(self, file: str) -> bool:
        with self._errors():
            try:
                self.store.folder.size(f"{self.directory}/{file}")
            except (FileNotFoundError, NotADirectoryError):
                return False
            return True

    def _errors(self) -> AbstractContextManager[None]:
        return storage_errors(f"checkpoint {self.name}")

    def _refusal(self, header: ManifestHeader) -> str:
        what = f"checkpoint {self.name} was written by"
        here = f"this is footplate {release_name()}, which reads format {FORMAT}"
        if header.format != 0:
            writer = f"footplate {header.written_by}" if header.written_by else "another release"
            return (
                f"{what} {writer} in format {header.format}; {here}: continue with the release that wrote "
                "it, or a later one"
            )
        try:  # the determinism key has always named the code
            writer = f"footplate {self.state().key['revision']}"
        except (CheckpointDamaged, KeyError):
            writer = "an earlier release"
        return (
            f"{what} {writer}, before checkpoint formats had numbers; {here} and does not read pickle: "
            "continue with the release that wrote it, or export it there (footplate-trainer export) and "
            "start from its weights (initFrom)"
        )
