"""Objects by URI: one small interface for a mounted folder, an object store and a web server.

A user chooses the URI below which data and checkpoints are stored. They need few
operations, and object stores differ from file systems in just these: an
object appears whole or not at all. So there is one small interface, with names
relative to the URI (a checkpoint folder adds to it, see checkpoint/folder.py):

    path, file://             files; written beside and renamed
    s3://, gs://, az://, …    obstore. Its fsspec adapter is not used: that one holds whole files in memory
    anything else             fsspec: memory://, http://, or any installed file system

Credentials come from where each store's own tools look: for S3 the AWS_*
variables (AWS_ENDPOINT_URL for a store that is not Amazon's) and the identity
of the pod. Every failure is an OSError that names the URI: FileNotFoundError for an
object that does not exist, PermissionError where reading is not allowed, and NoCredentials
for a store without credentials. Nothing here imports torch or numpy, and
a store's library is imported on first use.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from obstore.store import ObjectStore

OBJECT_STORES: Final = ("s3", "s3a", "gs", "az", "abfs", "abfss")
_RETRIES: Final = 6  # doubling from 0.1 s, these wait about 6 s in all
_CHUNK: Final = 8 << 20  # bytes held while an object is copied to a file
# Whom a store's library asks for credentials when the environment has none.
_IDENTITY_SERVERS: Final = ("169.254.169.254", "169.254.170.2", "metadata.google.internal")
# What file systems of fsspec call that which changes with a file's content, the surest first.
_STAMPS: Final = (
    "ETag",
    "etag",
    "Content-MD5",
    "Digest",
    "md5Hash",
    "sha",
    "blob_id",
    "Last-Modified",
    "LastModified",
    "last_modified",
    "mtime",
    "modified",
    "modificationTime",
    "created",
)


class NoCredentials(OSError):
    """The environment has no credentials for a store, and neither has the pod's identity."""


@dataclass(frozen=True, order=True)
class StoredObject:
    """An object's size and stamp; `name` is relative to the storage's URI."""

    name: str
    bytes: int
    stamp: str = field(default="", compare=False)  # another when the content is; "": the store tells none


class Storage(Protocol):
    """The objects below one URI. Names use "/" and are relative; every method may raise OSError."""

    uri: str

    def read(self, name: str) -> bytes:
        """Return the whole object; FileNotFoundError when there is none."""

    def size(self, name: str) -> int:
        """Return the object's size in bytes; FileNotFoundError when there is none."""

    def stat(self, name: str) -> StoredObject:
        """Return the object's size and stamp without reading it; FileNotFoundError when there is none."""

    def names(self) -> list[str]:
        """Return the names of objects and folders directly below the URI, hidden ones too.

        For no folder there are none; a web server that lists nothing gives none either, or raises
        PermissionError.
        """

    def list(self, prefix: str = "") -> list[StoredObject]:
        """Return all objects at any depth in the folder `prefix`, by name; hidden files are left out."""

    def upload(self, path: Path, name: str) -> None:
        """Create or replace an object from a local file of any size; readers never see a part of it."""

    def download(self, name: str, path: Path) -> None:
        """Copy to the local file `path`, a chunk at a time."""


def is_local(uri: str) -> bool:
    """Return whether `uri` is a plain path or a file:// URI."""
    return "://" not in uri or uri.startswith("file://")


def local_path(uri: str) -> Path:
    """Return the path of a plain path or file:// URI; ValueError for any other."""
    if not is_local(uri):
        raise ValueError(f"{uri} is not a path; use a path or a file:// URI")
    if not uri.startswith("file://"):
        return Path(uri)
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost"):
        raise ValueError(f"{uri} names the host {parts.netloc}; use file:/// and a path on this machine")
    return Path(unquote(parts.path))


def join(uri: str, name: str) -> str:
    """Return the URI of the object `name` below `uri`."""
    return f"{uri.rstrip('/')}/{name}"


def open_storage(uri: str) -> Storage:
    """Return the storage below `uri` without connecting to it; ValueError for an unknown scheme."""
    if is_local(uri):
        return LocalStorage(uri)
    if urlsplit(uri).scheme in OBJECT_STORES:
        return BucketStorage(uri)
    return FsspecStorage(uri)


def sync_folder(folder: Path) -> None:
    """Wait until the entries of `folder` are on the disk."""
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

    def stat(self, name: str) -> StoredObject:
        found = (self.folder / name).stat()
        return StoredObject(name, found.st_size, str(found.st_mtime_ns))

    def names(self) -> list[str]:
        return [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []

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
    """Objects of a bucket, through obstore; requests without an answer or answered with 5xx are retried."""

    def __init__(self, uri: str, retries: int = _RETRIES) -> None:
        if not urlsplit(uri).netloc:
            raise ValueError(f"{uri} has no bucket; use {urlsplit(uri).scheme}://BUCKET/FOLDER")
        self.uri = uri
        self._store = _bucket(uri, retries)

    def read(self, name: str) -> bytes:
        with self._errors(name):
            return self._store.get(name).bytes().to_bytes()

    def size(self, name: str) -> int:
        return self.stat(name).bytes

    def stat(self, name: str) -> StoredObject:
        with self._errors(name):
            found = self._store.head(name)
        return StoredObject(name, found["size"], found["e_tag"] or found["last_modified"].isoformat())

    def names(self) -> list[str]:
        with self._errors(""):
            found = self._store.list_with_delimiter(None)
        return [*found["common_prefixes"], *(stored["path"] for stored in found["objects"])]

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
            told = _first_line(error)
            if any(server in told for server in _IDENTITY_SERVERS):
                raise NoCredentials(f"{place}: no credentials found: {told}") from error
            raise OSError(f"{place}: {told}") from error


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
    """Objects of any file system that fsspec supports."""

    def __init__(self, uri: str) -> None:
        import fsspec

        self.uri = uri
        try:
            self._files, self._root = fsspec.url_to_fs(uri)
        except (ValueError, ImportError, OSError) as error:  # OSError: a library that it needs is not there
            why = next(iter(str(error).splitlines()), type(error).__name__)
            stores = ", ".join(f"{scheme}://" for scheme in OBJECT_STORES)
            raise ValueError(
                f"{uri} cannot be opened ({why}); use a path, file://, {stores}, http:// or https://"
            ) from None
        self._failures = _failures(urlsplit(uri).scheme)

    def read(self, name: str) -> bytes:
        with self._errors(name):
            return bytes(self._files.cat_file(self._path(name)))

    def size(self, name: str) -> int:
        return self.stat(name).bytes

    def stat(self, name: str) -> StoredObject:
        with self._errors(name):
            found = self._files.info(self._path(name))
        if found.get("size") is None:
            raise OSError(f"{join(self.uri, name)}: the server does not report the size")
        stamp = next((found[key] for key in _STAMPS if found.get(key)), "")
        return StoredObject(name, int(found["size"]), str(stamp))

    def names(self) -> list[str]:
        with self._errors(""):
            self._files.invalidate_cache()  # some keep a listing for as long as the process lives
            try:
                found = self._files.ls(self._root, detail=False)
            except FileNotFoundError:
                return []
        root = f"{self._root.rstrip('/')}/"
        below = {path.removeprefix(root).strip("/") for path in found if path.startswith(root)}
        # A web server's page of a folder has links to elsewhere, and to itself in another order.
        return sorted(name for name in below if name and "/" not in name and not name.startswith("?"))

    def list(self, prefix: str = "") -> list[StoredObject]:
        with self._errors(prefix):
            try:
                found = self._files.find(self._path(prefix) if prefix else self._root, detail=True)
            except FileNotFoundError:
                return []
        skip = len(self._root.rstrip("/")) + 1
        sizes = {path[skip:]: info["size"] for path, info in found.items()}
        return sorted(
            self.stat(name) if size is None else StoredObject(name, int(size)) for name, size in sizes.items()
        )

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
        try:
            yield
        except self._failures as error:
            raise _told(join(self.uri, name), error) from error


def _failures(scheme: str) -> tuple[type[Exception], ...]:
    """Return the exceptions that fsspec's file system of this scheme raises."""
    if scheme not in ("http", "https"):
        return (OSError, NotImplementedError)
    from aiohttp import ClientError

    return (OSError, NotImplementedError, ClientError)


def _told(place: str, error: Exception) -> OSError:
    """Return `error` as the OSError that this module documents.

    fsspec reports any failed request to a web server as FileNotFoundError, so its cause decides.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return error  # of the disk that is copied to
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and (isinstance(cause, OSError) or hasattr(cause, "status")):
        assert isinstance(cause, Exception)
        error = cause
    status = getattr(error, "status", None)  # of a web server's answer
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return FileNotFoundError(f"{place}: no such object")
    if isinstance(error, PermissionError) or status in (401, 403):
        return PermissionError(f"{place}: {_first_line(error)}")
    return OSError(f"{place}: {_first_line(error)}")
