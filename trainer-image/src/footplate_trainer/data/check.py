"""Checks of a run's data that need no torch.

Most runs that fail at once fail for a wrong path or half a folder. The manifest lists names and sizes, so
comparing them finds that out in milliseconds, and so does comparing the content of little data; an agent does
it before anything slow, and every rank again when it opens the shards. Nothing here needs torch or numpy.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.references import ReferenceField
from footplate_trainer.data.layout import MANIFEST_FILE, TOKENIZER_FILE, DataFile, ShardManifest
from footplate_trainer.errors import DataCorrupt, DataError, DataMissing, UserMistake
from footplate_trainer.storage import BucketStorage, LocalStorage, Storage, is_local, join, open_storage

if TYPE_CHECKING:
    from footplate_contracts.v1alpha1.data import Data

# What a volume gives and SHA-256 takes in a few hundredths of a second. More is left to the ranks,
# which share it.
LITTLE_BYTES: Final = 16 << 20
_PACK: Final = "footplate-trainer pack INPUT… OUT --vocabulary-size N"


def data_sources(data: Data) -> list[tuple[str, str, float]]:
    """Return (name, URI, weight) of each source of a run; a single folder has no name."""
    if data.sources is not None:
        return [(source.name, source.uri, source.weight) for source in data.sources]
    assert data.uri is not None, "the CRD's rule requires uri or sources"
    return [("", data.uri, 1.0)]


def check_run(uris: Iterable[str], tokenizer: str | None = None) -> None:
    """Run check_data for all folders of a run, and check the folder of its own tokenizer, if it has one."""
    for uri in uris:
        check_data(uri)
    if tokenizer is not None:
        tokenizer_bytes(tokenizer)


def check_data(uri: str) -> ShardManifest:
    """Return the manifest of the shards at `uri` after checking that all its files exist with the right size.

    On a volume, if all files together have at most LITTLE_BYTES, their checksums are compared too. Raises
    DataMissing, DataCorrupt; DataError when a store does not answer.
    """
    storage = open_data_storage(uri)
    _, manifest = read_manifest(storage)
    check_sizes(storage, manifest)
    if isinstance(storage, LocalStorage) and sum(record.bytes for record in manifest.files()) <= LITTLE_BYTES:
        verify_checksums(storage, manifest)
    return manifest


def tokenizer_bytes(uri: str) -> bytes:
    """Return the tokenizer.json in a folder; raises DataMissing, DataCorrupt, DataError."""
    storage = open_data_storage(uri)
    place = _place(storage, TOKENIZER_FILE)
    try:
        text = storage.read(TOKENIZER_FILE)
        json.loads(text)
    except (FileNotFoundError, NotADirectoryError):
        raise DataMissing.at(uri, f"has no {TOKENIZER_FILE}", "use a folder that has one") from None
    except OSError as error:
        raise data_read_error(place, error) from None
    except ValueError as error:
        raise DataCorrupt.at(place, "content", expected="JSON", found=str(error)) from None
    return text


def open_data_storage(uri: str) -> Storage:
    """Return the storage at `uri`; DataMissing for a URI that no storage can read."""
    try:
        return open_storage(uri)
    except ValueError as error:
        raise DataMissing.at(uri, "cannot be opened", str(error)) from None


def read_manifest(storage: Storage) -> tuple[bytes, ShardManifest]:
    """Return the manifest's bytes and the parsed manifest."""
    place = _place(storage, MANIFEST_FILE)
    try:
        text = storage.read(MANIFEST_FILE)
    except (FileNotFoundError, NotADirectoryError):
        gone = isinstance(storage, LocalStorage) and not storage.folder.is_dir()
        what = "the folder does not exist" if gone else f"has no {MANIFEST_FILE}"
        raise DataMissing.at(storage.uri, what, f"write one with `{_PACK}`") from None
    except OSError as error:
        raise data_read_error(place, error) from None
    return text, _parsed(text, place)


def check_sizes(storage: Storage, manifest: ShardManifest) -> None:
    """Compare the size of each file that the manifest names; DataCorrupt or DataMissing for a difference."""
    known = _listed_sizes(storage)
    for record in manifest.files():
        found = known.get(record.file)
        if found is None:
            found = _size(storage, record)
        if found != record.bytes:
            place = _place(storage, record.file)
            raise DataCorrupt.at(place, "size", expected=f"{record.bytes} bytes", found=f"{found} bytes")


def verify_checksums(storage: LocalStorage, manifest: ShardManifest) -> None:
    """Read each file that the manifest names and compare its checksum."""
    for record in manifest.files():
        path = storage.folder / record.file
        try:
            verify_checksum(path, record)
        except OSError as error:
            raise data_read_error(str(path), error) from None


def verify_checksum(path: Path, record: DataFile, place: str | None = None) -> None:
    """Compare the checksum of the file at `path`, which messages call `place`; may raise OSError."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != record.sha256:
        raise DataCorrupt.at(place or str(path), "sha256", expected=record.sha256, found=found)


def data_read_error(place: str, error: OSError) -> DataError:
    """Return the error for `place`, which exists and cannot be read, or whose store does not answer."""
    if is_local(place):
        what = f"cannot be read ({error.strerror or error})"
        return DataMissing.at(place, what, "check the volume and its permissions")
    if isinstance(error, PermissionError):
        return DataMissing.at(
            place, f"cannot be read ({error})", "check the credentials and what they may read"
        )
    return DataError(str(error))


def _parsed(text: bytes, place: str) -> ShardManifest:
    try:
        return ShardManifest.from_json(json.loads(text))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or MANIFEST_FILE
        raise DataCorrupt.at(place, field, expected="a shard manifest", found=first["msg"]) from None
    except ValueError as error:
        raise DataCorrupt.at(place, "content", expected="JSON", found=str(error)) from None


def _listed_sizes(storage: Storage) -> dict[str, int]:
    """Return sizes by name from one listing of a bucket; empty for other storages."""
    if not isinstance(storage, BucketStorage):
        return {}
    try:
        return {stored.name: stored.bytes for stored in storage.list()}
    except OSError as error:
        raise data_read_error(storage.uri, error) from None


def _size(storage: Storage, record: DataFile) -> int:
    place = _place(storage, record.file)
    try:
        return storage.size(record.file)
    except FileNotFoundError:
        raise DataMissing.at(place, "the manifest lists it, but it is missing", "restore it") from None
    except OSError as error:
        raise data_read_error(place, error) from None


def _place(storage: Storage, name: str) -> str:
    """Return the path or URI of a file, for messages."""
    return str(storage.folder / name) if isinstance(storage, LocalStorage) else join(storage.uri, name)


def check_provenance(config: RunConfig) -> None:
    """Raise UserMistake if the data of `config` is not what its recorded run wrote.

    Does nothing for other data. Raises the errors of reading a manifest, too. Not collective.
    """
    entry = next((entry for entry in config.lineage or () if entry.field == ReferenceField.DATA), None)
    if entry is None:
        return
    named = f"data.run {entry.run}: the data set {entry.uri}, which was set when this run was admitted,"
    remedy = "create this run again, or set data.uri to the folder"
    content, manifest = read_manifest(open_data_storage(entry.uri))
    writer = manifest.generated
    if writer is None or writer.uid != entry.uid:
        by = "no run" if writer is None else f"run {writer.run} with uid {writer.uid}"
        raise UserMistake(f"{named} now belongs to {by}, not to uid {entry.uid}; {remedy}")
    found = hashlib.sha256(content).hexdigest()
    if entry.digest not in (None, found):
        raise UserMistake(
            f"{named} has changed: its manifest.json has SHA-256 {found[:12]}…, and had "
            f"{str(entry.digest)[:12]}…; {remedy}"
        )


def manifest_digest(uri: str) -> str:
    """Return the SHA-256 of the manifest at `uri`, and so of its data set; raises the read errors."""
    return hashlib.sha256(read_manifest(open_data_storage(uri))[0]).hexdigest()
