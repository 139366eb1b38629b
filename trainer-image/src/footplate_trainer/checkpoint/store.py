"""The checkpoint folder: what is there, what is whole, what counts.

All reading and writing of names, markers and manifests goes through here; how
tensors get in and out stands in tensors.py, and where the folder lies in
folder.py. Failures below come out as StorageError, which tells a full volume
from the rest.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from pydantic import ValidationError

from footplate_contracts.model import Contract
from footplate_contracts.reports import GenerationId
from footplate_trainer.checkpoint import layout
from footplate_trainer.checkpoint.folder import open_folder
from footplate_trainer.checkpoint.layout import (
    FORMAT,
    CheckpointFile,
    CommitMarker,
    Manifest,
    ManifestHeader,
    StepDirectory,
)
from footplate_trainer.checkpoint.record import TrainingState, release
from footplate_trainer.errors import CheckpointDamaged, CheckpointError, StorageError
from footplate_trainer.storage import is_local, join

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_CHUNK: Final = 8 << 20  # bytes

Record = TypeVar("Record", bound=Contract)


class CheckpointStore:
    """One run's checkpoint folder. What is not told otherwise raises OSError when storage fails."""

    def __init__(self, uri: str | Path) -> None:
        """`uri` is a path, file:// or s3://; ValueError for any other scheme."""
        self.uri = str(uri)
        self.folder = open_folder(self.uri)

    def create(self) -> None:
        """Make the folder; StorageError when it cannot be written."""
        with storage_errors(f"checkpoint folder {self.uri}"):
            self.folder.prepare()

    def place(self, directory: str) -> str:
        """Where a directory is, as a person would write it."""
        return join(self.uri, directory)

    def steps(self) -> list[int]:
        """Steps that have a commit marker, newest first."""
        found = (layout.marker_step(name) for name in self.folder.names())
        return sorted((step for step in found if step is not None), reverse=True)

    def directories(self) -> list[StepDirectory]:
        """All step directories, committed or not."""
        found = (StepDirectory.parse(name) for name in self.folder.names())
        return [directory for directory in found if directory is not None]

    def marker(self, step: int) -> CommitMarker | None:
        """The commit marker of `step`; None when there is none or it was never finished."""
        try:
            return CommitMarker.from_json(json.loads(self.folder.read(layout.marker_name(step))))
        except (FileNotFoundError, ValueError):  # pydantic's ValidationError is a ValueError
            return None

    def commit(self, marker: CommitMarker) -> bool:
        """Create the marker of a step that has none; False when another generation was first."""
        content = json.dumps(marker.to_json()).encode()
        # A bucket may have done it, and say no when the answer was lost and it is asked again.
        return (
            self.folder.create(layout.marker_name(marker.step), content) or self.marker(marker.step) == marker
        )

    def revoke(self, step: int) -> None:
        """Take the marker of `step` away, so that the step can be committed again."""
        self.folder.delete(layout.marker_name(step))

    def discard(self, directory: StepDirectory) -> None:
        """Remove a directory and all in it, if it is there."""
        self.folder.remove(directory.name)

    def retain(self, keep_last: int, keep_every: int | None, writing: GenerationId) -> None:
        """Remove what retention no longer needs; markers go before their directories."""
        markers = {step: self.marker(step) for step in self.steps()}
        kept = layout.retained_steps(
            [step for step, marker in markers.items() if marker], keep_last, keep_every
        )
        for step in markers.keys() - kept:
            self.revoke(step)
        needed = [StepDirectory.parse(marker.directory) for step in kept if (marker := markers[step])]
        for directory in layout.removable_directories(
            self.directories(), [one for one in needed if one], writing
        ):
            self.discard(directory)

    def write(self, directory: str, file: str, content: bytes) -> CheckpointFile:
        """Write one small file of a directory durably; what proves it whole."""
        self.folder.write(f"{directory}/{file}", content)
        return CheckpointFile(file=file, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())

    def read(self, kind: type[Record], directory: str, file: str) -> Record:
        """A JSON file of a directory; CheckpointDamaged when it is missing or torn."""
        place = join(self.place(directory), file)
        try:
            return kind.model_validate_json(self.folder.read(f"{directory}/{file}"))
        except FileNotFoundError:
            raise CheckpointDamaged(f"{place} is missing") from None
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            what = f"{field}: {first['msg']}" if field else first["msg"]
            raise CheckpointDamaged(f"{place} is damaged: {what}") from None

    def manifest(self, directory: str) -> Manifest:
        """The manifest of a directory.

        CheckpointDamaged when it is missing or torn, CheckpointError when its format is not that of this
        release: then nothing else in the directory may be read either.
        """
        header = self.read(ManifestHeader, directory, layout.MANIFEST_FILE)
        if header.format != FORMAT:
            raise CheckpointError(self._refusal(directory, header))
        return self.read(Manifest, directory, layout.MANIFEST_FILE)

    def _refusal(self, directory: str, header: ManifestHeader) -> str:
        what = f"checkpoint {self.place(directory)} was written by"
        here = f"this is footplate {release()}, which reads format {FORMAT}"
        if header.format != 0:
            return (
                f"{what} footplate {header.written_by} in format {header.format}; {here}: go on with the "
                "release that wrote it, or with a later one"
            )
        try:  # the determinism key has always named the code
            writer = f"footplate {self.read(TrainingState, directory, layout.STATE_FILE).key['revision']}"
        except (CheckpointDamaged, KeyError):
            writer = "an earlier release"
        return (
            f"{what} {writer}, before checkpoint formats had numbers; {here} and no pickle: go on with the "
            "release that wrote it, or export it there (footplate-trainer export) and start from its weights "
            "(initFrom)"
        )

    def has_manifest(self, directory: str) -> bool:
        """Whether a manifest is there, torn or whole."""
        try:
            self.folder.size(f"{directory}/{layout.MANIFEST_FILE}")
        except FileNotFoundError:
            return False
        return True

    def damage(self, directory: str, record: CheckpointFile) -> str | None:
        """What is wrong with one file of a directory, in words; None when it is whole."""
        name = f"{directory}/{record.file}"
        try:
            size = self.folder.size(name)
            if size != record.bytes:
                return f"{name} has {size} bytes, should have {record.bytes}"
            found = self._digest(name)
        except FileNotFoundError:
            return f"{name} is missing"
        if found != record.sha256:
            return f"{name} has SHA-256 {found[:12]}…, should have {record.sha256[:12]}…"
        return None

    def first_unseen(self, directory: str, records: Iterable[CheckpointFile]) -> str | None:
        """What other ranks have written and is not here, in words; None where this folder is one for all.

        A bucket always is. Ranks of several nodes can all name the same path and mean a disk each.
        """
        if not is_local(self.uri):
            return None
        for record in records:
            try:
                self.folder.size(f"{directory}/{record.file}")
            except FileNotFoundError:
                return (
                    f"{self.place(directory)}/{record.file}, which another rank has written, is not here: "
                    f"{self.uri} is not one folder for all ranks; mount a volume that they share"
                )
        return None

    def first_damage(self, directory: str | None, part: int = 0, parts: int = 1) -> str | None:
        """What is wrong with every `parts`-th file from the `part`-th, in words; None when nothing is.

        CheckpointError where this release cannot tell, since the directory has another format.
        """
        if directory is None:
            return "its commit marker is torn"
        try:
            files = self.manifest(directory).files
        except CheckpointDamaged as error:
            return str(error)
        return next(
            (damage for record in files[part::parts] if (damage := self.damage(directory, record))), None
        )

    def _digest(self, name: str) -> str:
        digest = hashlib.sha256()
        with self.folder.open_read(name) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest()


def is_full(error: BaseException) -> bool:
    """Whether `error`, or what it came from, says that the volume is full."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _FULL:
            return True
        seen = seen.__cause__ or seen.__context__
    return False


@contextmanager
def storage_errors(what: str, step: int | None = None) -> Iterator[None]:
    """Turn OSError into a StorageError about `what`, of a checkpoint of `step` where that is known."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{what}: {error.strerror or error}", full=is_full(error), step=step) from error
