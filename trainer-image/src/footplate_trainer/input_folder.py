"""A folder that a field of a run names, wherever it lies.

On a mounted volume, in an object store, or at any other URI that fsspec reads: who
needs its files does not ask. Small ones are read where they are. Of large ones ranks
read pieces, so those are copied to the node first, unless they are on a volume.

What is wrong is told with field, URI and remedy: as UserMistake where a restart would
not mend it, else as StorageError. Nothing here needs torch or numpy.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from footplate_trainer.errors import StorageError, TrainerError, UserMistake
from footplate_trainer.node_cache import (
    CachedCopy,
    CacheError,
    CopyDiffers,
    RemoteFile,
    fetch,
    key_of,
    settings_from,
)
from footplate_trainer.storage import (
    LocalStorage,
    NoCredentials,
    StoredObject,
    is_local,
    join,
    open_storage,
)

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class NodeFolder:
    """A folder with the files that were asked for, on this machine."""

    path: Path
    digest: str = ""  # of what they are, equal on all nodes; "" for a volume, which is not looked through
    copy: CachedCopy | None = None  # in use as long as this object lives


class InputFolder:
    """The folder at `uri`, which `field` of the spec names. Names have no "/"."""

    def __init__(self, uri: str, field: str, environment: Mapping[str, str] = os.environ) -> None:
        """UserMistake for a URI that nothing here can read; connects to nothing yet."""
        self.uri = uri
        self.field = field
        self._environment = environment
        try:
            self._storage = open_storage(uri)
        except ValueError as error:
            raise UserMistake(f"{field}: {error}") from error
        self._volume = self._storage.folder if isinstance(self._storage, LocalStorage) else None

    @property
    def name(self) -> str:
        """The folder as a person would write it."""
        return str(self._volume) if self._volume else self.uri.rstrip("/")

    @property
    def on_volume(self) -> bool:
        """Whether it is a folder of this machine, and nothing has to be copied."""
        return self._volume is not None

    @property
    def exists(self) -> bool:
        """Whether there is such a folder; True where only a file in it could tell."""
        return self._volume is None or self._volume.is_dir()

    def place(self, file: str) -> str:
        """One of its files as a person would write it."""
        return join(self.name, file)

    def names(self) -> list[str]:
        """Names of its files and folders; a web server may list none, and have them all the same."""
        try:
            return sorted(self._storage.names())
        except OSError as error:
            if isinstance(error, PermissionError) and not self.on_volume:
                return []  # to list is a right of its own, and so is to read
            raise self.unreadable(error) from None

    def read(self, name: str) -> bytes | None:
        """A whole small file; None when it is not there."""
        return self._asked(self._storage.read, name)

    def stat(self, name: str) -> StoredObject | None:
        """What is known of a file without reading it; None when it is not there."""
        return self._asked(self._storage.stat, name)

    def _asked(self, ask: Callable[[str], Answer], name: str) -> Answer | None:
        try:
            return ask(name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self.unreadable(error) from None

    def on_node(
        self,
        files: Iterable[StoredObject],
        known: Mapping[str, bytes] | None = None,
        *,
        owner: str = "",
        local_rank: int = 0,
    ) -> NodeFolder:
        """The folder itself on a volume; else this node's copy of `files`, as stat() told of them.

        May be called by all ranks of a node at once. `known` are small files that were read before, and
        lie beside the others in a copy. A server may not tell whether a file has changed since: a copy of
        its files is for one `owner` alone, such as a run.
        """
        if self._volume is not None:
            return NodeFolder(self._volume)
        wanted = [RemoteFile(file.name, file.bytes, stamp=file.stamp) for file in sorted(files)]
        key = copy_key(self.uri, wanted, known or {}, owner)
        try:
            copy = fetch(self._storage, key, wanted, settings_from(self._environment), local_rank, known)
        except CopyDiffers as error:
            raise StorageError(f"{self.field} {self.uri} was written while it was copied: {error}") from None
        except CacheError as error:
            raise StorageError(f"{self.field}: {error}") from None
        except OSError as error:
            raise self.unreadable(error) from None
        return NodeFolder(copy.folder, key, copy)

    def mistake(self, told: str) -> UserMistake:
        """What to raise of a folder that is not as it should be."""
        return UserMistake(f"{self.field} {self.name}: {told}")

    def unreadable(self, error: OSError) -> TrainerError:
        """What to raise when reading it gave `error`, which names the file."""
        return unreadable(self.field, self.uri, error)


def unreadable(field: str, uri: str, error: OSError) -> TrainerError:
    """What to raise when reading `uri`, which `field` names, gave `error`."""
    if is_local(uri):
        return UserMistake(
            f"{field} {error.filename or uri}: cannot be read ({error.strerror or error}); check the volume "
            "and its permissions"
        )
    if isinstance(error, FileNotFoundError):
        return UserMistake(f"{field} cannot be read: {error}; name a folder that is there")
    if isinstance(error, (PermissionError, NoCredentials)):
        return UserMistake(
            f"{field} cannot be read: {error}; give credentials that may read and list it, through "
            "trainer.env or trainer.envFrom"
        )
    return StorageError(f"{field} cannot be read: {error}")


def copy_key(uri: str, files: Sequence[RemoteFile], known: Mapping[str, bytes], owner: str) -> str:
    """Another for other files; pure. Equal sizes prove nothing, and one time of change not much."""
    seen = [[file.name, file.bytes, file.stamp] for file in files]
    read = [[name, key_of(content)] for name, content in sorted(known.items())]
    whose = "" if all(file.stamp for file in files) else owner
    return key_of(json.dumps([uri, whose, seen, read]).encode())
