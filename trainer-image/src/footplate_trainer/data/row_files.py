"""Rows of data sets, each with its location, from any storage.

An INPUT is a file (.jsonl, .json with a list, .parquet; .gz of the first two), or a folder: of such files, or
with the layout of a hub's data sets, where file names or README.md name the split. Either is a path or any
URI that the storage supports. Remote files are copied to this machine one at a time.

A broken row is yielded as a Row with a BadRow, so that the caller decides whether to stop.
"""

from __future__ import annotations

import gzip
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from footplate_trainer.storage import LocalStorage, Storage, is_local, join, local_path, open_storage

KINDS: Final = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")
TRAIN: Final = "train"
_README: Final = "README.md"
_BATCH: Final = 256  # rows of parquet that are Python objects at a time
# What a hub takes a file's split from, where its README says nothing.
_SPLIT: Final = re.compile(
    r"(?:^|[-._/ ])(?:(train|training)|(validation|valid|val|dev)|(test|testing|eval|evaluation))"
    r"(?=$|[-._/ \d])"
)
_SPLITS: Final = (TRAIN, "validation", "test")
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


class BadRow(ValueError):
    """A row cannot be used; `reason` is a word or two under which such rows are counted."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class DataRow:
    """A row of a file, or the reason why it cannot be used."""

    place: str  # "file:line"
    content: Mapping[str, Any] | BadRow
    bytes: int  # that it took of its file, about


@dataclass(frozen=True)
class RowFile:
    """A file with rows."""

    storage: Storage
    name: str
    bytes: int

    @property
    def location(self) -> str:
        """The file's path or URI, for messages."""
        if isinstance(self.storage, LocalStorage):
            return str(self.storage.folder / self.name)
        return join(self.storage.uri, self.name)

    def rows(self) -> Iterator[DataRow]:
        """Yield all rows, in order; ValueError if the file is not of its kind, OSError if unreadable."""
        with self._local() as path:
            if self.name.endswith(".parquet"):
                yield from _parquet(path, self.location)
            else:
                yield from _json(path, self.location, list_allowed=".json" in Path(self.name).suffixes)

    @contextmanager
    def _local(self) -> Iterator[Path]:
        if isinstance(self.storage, LocalStorage):
            yield self.storage.folder / self.name
            return
        with tempfile.TemporaryDirectory(prefix="footplate-rows-") as scratch:
            path = Path(scratch) / Path(self.name).name
            self.storage.download(self.name, path)
            yield path


def list_files(
    uri: str, *, split: str = TRAIN, config: str | None = None, include: Sequence[str] = ()
) -> list[RowFile]:
    """List the files of an INPUT by name; of a folder those of `split`.

    They match a glob of `include`, if there are any. Raises ValueError when there are no files.
    """
    if uri.endswith(KINDS):
        return [_file(uri)]
    if is_local(uri) and not local_path(uri).is_dir():
        raise ValueError(f"INPUT {uri} is not a folder, and not a {', '.join(KINDS)} file")
    if uri.startswith(("http://", "https://")):
        raise ValueError(f"INPUT {uri}: a web server does not list a folder's files; pass each file")
    storage = open_storage(uri)
    stored = {found.name: found.bytes for found in storage.list()}
    names = [name for name in stored if name.endswith(KINDS) and _included(name, include)]
    said = _said_by_readme(storage, uri, config) if _README in stored else None
    if said is not None:
        chosen = [name for name in names if any(_matches(name, glob) for glob in said.get(split, ()))]
        splits = sorted(said)
    else:
        if config is not None:
            raise ValueError(f"INPUT {uri} has no {_README} that names configs; remove --config")
        by_name = {name: split_of(name) for name in names}
        chosen = [name for name in names if by_name[name] == split]
        splits = sorted(set(by_name.values()))
    if not chosen:
        matching = f" that matches {' or '.join(include)}" if include else ""
        there = f"; its splits are {', '.join(splits)}" if splits else ""
        raise ValueError(f"INPUT {uri} has no file ({', '.join(KINDS)}) of split {split}{matching}{there}")
    return [RowFile(storage, name, stored[name]) for name in sorted(chosen)]


def split_of(name: str) -> str:
    """Return the split in a file's name; a name without one is for training."""
    found = _SPLIT.search(name.lower())
    return (
        TRAIN if found is None else next(s for s, word in zip(_SPLITS, found.groups(), strict=True) if word)
    )


def _file(uri: str) -> RowFile:
    if is_local(uri):
        path = local_path(uri)
        if not path.is_file():
            raise ValueError(f"INPUT {uri}: no such file")
        return RowFile(LocalStorage(str(path.parent)), path.name, path.stat().st_size)
    folder, _, name = uri.rpartition("/")
    storage = open_storage(folder)
    return RowFile(storage, name, storage.size(name))


def _included(name: str, include: Sequence[str]) -> bool:
    return not include or any(
        fnmatchcase(name, glob) or fnmatchcase(Path(name).name, glob) for glob in include
    )


def _matches(name: str, glob: str) -> bool:
    return fnmatchcase(name, glob) or name == glob or name.startswith(f"{glob.rstrip('/')}/")


def _said_by_readme(storage: Storage, uri: str, config: str | None) -> dict[str, list[str]] | None:
    """Return globs by split from the YAML head of README.md; None if it names no files."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    text = storage.read(_README).decode(errors="replace")
    if not text.startswith("---"):
        return None
    try:
        head = YAML(typ="safe").load(text.split("\n---", 1)[0].removeprefix("---"))
    except YAMLError as error:
        raise ValueError(f"{join(uri, _README)}: its front matter is not valid YAML: {error}") from None
    configs = head.get("configs") if isinstance(head, dict) else None
    known = {
        str(found.get("config_name", "default")): found for found in configs or () if found.get("data_files")
    }
    if not known:
        return None
    if config is None:
        config = next((name for name, found in known.items() if found.get("default")), None)
        config = config or (
            "default" if "default" in known else next(iter(known)) if len(known) == 1 else None
        )
    if config not in known:
        raise ValueError(
            f"INPUT {uri} has the configs {', '.join(sorted(known))}; pass one of them as --config"
        )
    return _globs(known[config]["data_files"])


def _globs(said: Any) -> dict[str, list[str]]:
    if isinstance(said, str):
        return {TRAIN: [said]}
    globs: dict[str, list[str]] = {}
    for part in said:
        split, path = (TRAIN, part) if isinstance(part, str) else (part.get("split", TRAIN), part.get("path"))
        globs.setdefault(str(split), []).extend([path] if isinstance(path, str) else path or ())
    return globs


def _json(path: Path, place: str, *, list_allowed: bool) -> Iterator[DataRow]:
    """Yield a row for each line; for a .json file with one list, for each member."""
    with gzip.GzipFile(path) if path.suffix == ".gz" else path.open("rb") as file:
        if list_allowed and file.peek(64).lstrip()[:1] == b"[":
            yield from _members(file.read(), place)
            return
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield DataRow(f"{place}:{number}", _line(line), len(line))


def _line(line: bytes) -> Mapping[str, Any] | BadRow:
    try:
        text = line.decode("utf-8-sig")
        return _object(json.loads(text), surrogates=_SURROGATE.search(text) is not None)
    except UnicodeDecodeError as error:
        return BadRow("not UTF-8", f"is not UTF-8: {error.reason} at byte {error.start}")
    except json.JSONDecodeError as error:
        return BadRow("not JSON", f"is not valid JSON: {error.msg} at character {error.pos + 1}")
    except (ValueError, RecursionError) as error:
        return BadRow("not JSON", f"is not valid JSON: {error}")


def _members(content: bytes, place: str) -> Iterator[DataRow]:
    try:
        members = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} is not valid JSON: {error}") from None
    for number, member in enumerate(members, start=1):
        yield DataRow(f"{place}:{number}", _object(member, surrogates=True), len(content) // len(members))


def _object(value: Any, *, surrogates: bool) -> Mapping[str, Any] | BadRow:
    if not isinstance(value, dict):
        return BadRow("not an object", f"is a {type(value).__name__}; each row must be an object")
    if surrogates:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            # JSON may spell half a surrogate pair, which no UTF-8 text holds.
            return BadRow("not UTF-8", "has an unpaired surrogate; remove it")
    return value


def _parquet(path: Path, place: str) -> Iterator[DataRow]:
    import pyarrow as arrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        share = path.stat().st_size // max(file.metadata.num_rows, 1)
        number = 0
        for batch in file.iter_batches(batch_size=_BATCH):
            for content in batch.to_pylist():
                number += 1
                yield DataRow(f"{place}:{number}", content, share)
    except (arrow.ArrowException, UnicodeDecodeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{place} is not a readable parquet file: {first}") from None
