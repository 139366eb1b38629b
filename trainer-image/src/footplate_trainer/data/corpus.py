"""Where the documents of a corpus come from, always in the same order.

An INPUT is a file, a folder, or one of two corpora that every Python brings
along. Files are listed once, before anything is written, so that an output
folder inside an input folder is not read back in. The corpus may be iterated
any number of times: once to learn a tokenizer, once to encode.
"""

from __future__ import annotations

import json
import os
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

PYTHON_DOCS: Final = "python-docs:"
PYTHON_STDLIB: Final = "python-stdlib:"
_NOT_STDLIB: Final = ("site-packages", "dist-packages", "__pycache__", "lib-dynload")


@dataclass(frozen=True)
class Document:
    """One text; `source` is the place of its INPUT in the command line."""

    source: int
    text: str


@dataclass
class SourceCount:
    """What one INPUT gave on the latest pass."""

    input: str
    documents: int = 0
    bytes: int = 0
    skipped: int = 0


@dataclass(frozen=True)
class Corpus:
    """The documents of all inputs. Build it with open_corpus()."""

    inputs: tuple[str, ...]
    files: tuple[tuple[int, Path], ...]  # (place of the input, file), in reading order
    total_bytes: int  # of the files, before anything is skipped
    counts: list[SourceCount] = field(default_factory=list)

    def __iter__(self) -> Iterator[Document]:
        """All documents, in order; `counts` is what this pass met."""
        self.counts[:] = [SourceCount(name) for name in self.inputs]
        for source, name in enumerate(self.inputs):
            texts = _python_docs() if name == PYTHON_DOCS else self._file_texts(source)
            for text in texts:
                if not text:
                    self.counts[source].skipped += 1
                    continue
                self.counts[source].documents += 1
                self.counts[source].bytes += len(text.encode())
                yield Document(source, text)

    def _file_texts(self, source: int) -> Iterator[str | None]:
        for place, path in self.files:
            if place == source:
                yield from _json_lines(path) if path.suffix == ".jsonl" else [read_text(path)]


def open_corpus(inputs: Sequence[str], include: Sequence[str] = ()) -> Corpus:
    """Lists the files of `inputs`; of folders those that match a glob of `include`, or all.

    Raises ValueError for an input that does not exist or holds no file.
    """
    files: list[tuple[int, Path]] = []
    total = 0
    for source, name in enumerate(inputs):
        if name == PYTHON_DOCS:
            total += sum(len(text.encode()) for text in _python_docs())
            continue
        found = _input_files(name, include)
        if not found:
            wanted = f" that matches {' or '.join(include)}" if include else ""
            raise ValueError(f"INPUT {name} holds no file{wanted}")
        files.extend((source, path) for path in found)
        total += sum(path.stat().st_size for path in found)
    return Corpus(tuple(inputs), tuple(files), total)


def read_text(path: Path) -> str | None:
    """The file's text without a byte-order mark, line ends as they are; None when binary or not UTF-8."""
    content = path.read_bytes()
    if b"\0" in content:
        return None
    try:
        return content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError:
        return None


def _input_files(name: str, include: Sequence[str]) -> list[Path]:
    if name == PYTHON_STDLIB:
        return _walk(Path(sysconfig.get_path("stdlib")), include or ("*.py",), skip=_NOT_STDLIB)
    path = Path(name)
    if path.is_file():
        return [path]
    if path.is_dir():
        return _walk(path, include)
    raise ValueError(f"INPUT {name} is no file or folder; {PYTHON_DOCS} and {PYTHON_STDLIB} are always there")


def _walk(folder: Path, include: Sequence[str], skip: Sequence[str] = ()) -> list[Path]:
    """Files below `folder`, sorted; hidden files and folders (.git) are left out."""
    found = []
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in skip)
        for name in sorted(names):
            path = Path(here, name)
            if not name.startswith(".") and path.is_file() and _included(path.relative_to(folder), include):
                found.append(path)
    return found


def _included(path: Path, include: Sequence[str]) -> bool:
    return not include or any(
        fnmatchcase(path.name, glob) or fnmatchcase(path.as_posix(), glob) for glob in include
    )


def _json_lines(path: Path) -> Iterator[str | None]:
    """The "text" of each line; None for a line that is empty or not UTF-8."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _record_text(line, f"{path}:{number}")


def _record_text(line: bytes, place: str) -> str | None:
    try:
        record = json.loads(line)
    except UnicodeDecodeError:
        return None
    except ValueError as error:
        raise ValueError(f"{place} is no JSON: {error}") from None
    if not isinstance(record, dict) or not isinstance(record.get("text"), str):
        seen = f"the fields {sorted(record)}" if isinstance(record, dict) else f"a {type(record).__name__}"
        raise ValueError(f'{place} has {seen}; each line must be an object with a string field "text"')
    text: str = record["text"]
    # JSON may spell half a surrogate pair, which no UTF-8 text holds.
    return text if text.isascii() or _encodable(text) else None


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _python_docs() -> Iterator[str]:
    """The topics of the language reference, as `help()` shows them, by name."""
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield topics[name]
