"""Objects by URI: the same few verbs on a mounted folder, an object store and a web server.

Data and checkpoints both live below a URI that a person chose. What they need of
it is little, and object stores differ from file systems in just that little: an
object appears whole or not at all. So there is one small interface, with names
relative to the URI (a checkpoint folder adds to it, see checkpoint/folder.py):

    path, file://             files; written beside and renamed
    s3://, gs://, az://, …    obstore. Its fsspec adapter is not used: that one holds whole files in memory
    anything else             fsspec: memory://, http://, or what is installed beside it

Credentials come from where each store's own tools look: for S3 the AWS_*
variables (AWS_ENDPOINT_URL for a store that is not Amazon's) and the identity
of the pod. Every failure is an OSError that names the URI; what is not there is
a FileNotFoundError. Nothing here imports torch or numpy, and a store's library
is imported when it is asked for.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from obstore.store import ObjectStore

OBJECT_STORES: Final = ("s3", "s3a", "gs", "az", "abfs", "abfss")
_RETRIES: Final = 6  # doubling from 0.1 s, these wait about 6 s in all
_CHUNK: Final = 8 << 20  # bytes held while an object is copied to a file


@dataclass(frozen=True, order=True)
class StoredObject:
    """One object; `name` is relative to the storage's URI."""

    name: str
    bytes: int


class Storage(Protocol):
    """The objects below one URI. Names use "/" and are relative; every method may raise OSError."""

    uri: str

    def read(self, name: str) -> bytes:
        """The whole object; FileNotFoundError when there is none."""

    def size(self, name: str) -> int:
        """Its size in bytes; FileNotFoundError when there is none."""

    def list(self, prefix: str = "") -> list[StoredObject]:
        """All objects at any depth in the folder `prefix`, by name; hidden files are left out."""

    def upload(self, path: Path, name: str) -> None:
        """Create or replace from a local file of any size; readers see the old or the new, never a part."""

    def download(self, name: str, path: Path) -> None:
        """Copy to the local file `path`, a chunk at a time."""


def is_local(uri: str) -> bool:
    """Whether `uri` is a plain path or a file:// URI."""
    return "://" not in uri or uri.startswith("file://")


def local_path(uri: str) -> Path:
    """The path of a plain path or file:// URI; ValueError for any other."""
    if not is_local(uri):
        raise ValueError(f"{uri} is no path; give a path or a file:// URI")
    if not uri.startswith("file://"):
        return Path(uri)
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost"):
        raise ValueError(f"{uri} names the host {parts.netloc}; write file:/// and a path of this machine")
    return Path(unquote(parts.path))


def join(uri: str, name: str) -> str:
    """The URI of the object `name` below `uri`."""
    return f"{uri.rstrip('/')}/{name}"


def open_storage(uri: str) -> Storage:
    """The storage below `uri`; connects to nothing yet. ValueError for a scheme that is not known."""
    if is_local(uri):
        return LocalStorage(uri)
    if urlsplit(uri).scheme in OBJECT_STORES:
        return BucketStorage(uri)
    return FsspecStorage(uri)


def sync_folder(folder: Path) -> None:
    """Wait until the names in `folder` are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class LocalStorage:
    """Files below a folder."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.folder = local_path(uri)

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def size(self, name: str) -> int:
        return (self.folder / name).stat().st_size

    def list(self, prefix: str = "") -> list[StoredObject]:
        everything = (self.folder / prefix).rglob("*")
        paths = (path for path in everything if path.is_file() and not path.name.startswith("."))
        found = (
            StoredObject(path.relative_to(self.folder).as_posix(), path.stat().st_size) for path in paths
        )
        return sorted(found)

    def upload(self, path: Path, name: str) -> None:
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            shutil.copyfile(path, partial)
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        sync_folder(target.parent)

    def download(self, name: str, path: Path) -> None:
        shutil.copyfile(self.folder / name, path)


class BucketStorage:
    """Objects of a bucket, through obstore; one that does not answer, or answers 5xx, is asked again."""

    def __init__(self, uri: str, retries: int = _RETRIES) -> None:
        if not urlsplit(uri).netloc:
            raise ValueError(f"{uri} names no bucket; write {urlsplit(uri).scheme}://BUCKET/FOLDER")
        self.uri = uri
        self._store = _bucket(uri, retries)

    def read(self, name: str) -> bytes:
        with self._errors(name):
            return self._store.get(name).bytes().to_bytes()

    def size(self, name: str) -> int:
        with self._errors(name):
            return self._store.head(name)["size"]

    def list(self, prefix: str = "") -> list[StoredObject]:
        with self._errors(prefix):
            pages = self._store.list(prefix or None)
            found = [StoredObject(stored["path"], stored["size"]) for page in pages for stored in page]
        return sorted(found)

    def upload(self, path: Path, name: str) -> None:
        with self._errors(name):
            self._store.put(name, path)

    def download(self, name: str, path: Path) -> None:
        with self._errors(name), path.open("wb") as file:
            for chunk in self._store.get(name).stream(min_chunk_size=_CHUNK):
                file.write(chunk)

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        """Turn obstore's errors into an OSError of one line: the rest of theirs is a debug dump."""
        from obstore import exceptions

        place = join(self.uri, name)
        try:
            yield
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{place}: {_first_line(error)}") from error
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
            raise PermissionError(f"{place}: {_first_line(error)}") from error
        except exceptions.BaseError as error:
            raise OSError(f"{place}: {_first_line(error)}") from error


def _bucket(uri: str, retries: int) -> ObjectStore:
    from obstore.store import from_url

    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    endpoints = (os.environ.get(name, "") for name in names)
    endpoint = next(filter(None, endpoints), "") if uri.startswith("s3") else ""
    options: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
    return from_url(
        uri,
        # A store inside the cluster often speaks plain HTTP; whoever names such an endpoint means it.
        client_options={"allow_http": endpoint.startswith("http://")},
        retry_config={"max_retries": retries, "retry_timeout": timedelta(minutes=3)},
        **options,
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class FsspecStorage:
    """Objects of any file system that fsspec knows."""

    def __init__(self, uri: str) -> None:
        import fsspec

        self.uri = uri
        try:
            self._files, self._root = fsspec.url_to_fs(uri)
        except (ValueError, ImportError) as error:
            stores = ", ".join(f"{scheme}://" for scheme in OBJECT_STORES)
            raise ValueError(
                f"{uri} cannot be opened ({error}); use a path, file://, {stores}, http:// or https://"
            ) from None

    def read(self, name: str) -> bytes:
        with self._errors(name):
            return bytes(self._files.cat_file(self._path(name)))

    def size(self, name: str) -> int:
        with self._errors(name):
            size = self._files.info(self._path(name)).get("size")
        if size is None:
            raise OSError(f"{join(self.uri, name)}: the server does not tell the size")
        return int(size)

    def list(self, prefix: str = "") -> list[StoredObject]:
        with self._errors(prefix):
            try:
                found = self._files.find(self._path(prefix) if prefix else self._root, detail=True)
            except FileNotFoundError:
                return []
        skip = len(self._root.rstrip("/")) + 1
        return sorted(StoredObject(path[skip:], int(info["size"])) for path, info in found.items())

    def upload(self, path: Path, name: str) -> None:
        with self._errors(name):
            self._files.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)
            self._files.put_file(str(path), self._path(name))

    def download(self, name: str, path: Path) -> None:
        with self._errors(name):
            self._files.get_file(self._path(name), str(path))

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        place = join(self.uri, name)
        try:
            yield
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{place}: there is no such object") from error
        except (OSError, NotImplementedError) as error:
            raise OSError(f"{place}: {_first_line(error)}") from error
