"""The documents of a corpus, always in the same order.

An INPUT is a file, a folder, or one of two corpora that every Python contains. Files are listed once, before
anything is written, so that an output folder inside an input folder is not read back in. The corpus may be
iterated any number of times: once to train a tokenizer, once to encode.

The fields of a line in a .jsonl file depend on the format: a text, two texts that belong together, or a text
and a number.
"""

from __future__ import annotations

import json
import os
import re
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from footplate_trainer.data.layout import RecordKind

PYTHON_DOCS: Final = "python-docs:"
PYTHON_STDLIB: Final = "python-stdlib:"
_LARGEST: Final = 3.4e38  # of a float32; not below it: NaN, infinity
_TEXTS: Final = {
    RecordKind.TOKENS: ("text",),
    RecordKind.PAIRS: ("query", "positive"),
    RecordKind.REGRESSION: ("text",),
}
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_NOT_STDLIB: Final = ("site-packages", "dist-packages", "__pycache__", "lib-dynload")


@dataclass(frozen=True)
class CorpusDocument:
    """A text, with its target value in format regression."""

    text: str
    value: float | None = None  # what a regression should give for it


@dataclass(frozen=True)
class CorpusRecord:
    """The content of one file or line: the texts of one document or, in a pair, of two."""

    texts: tuple[str, ...]
    value: float | None = None


@dataclass
class SourceCount:
    """Counts of one INPUT in the latest pass."""

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
    format: RecordKind = RecordKind.TOKENS
    counts: list[SourceCount] = field(default_factory=list)

    def __iter__(self) -> Iterator[CorpusDocument]:
        """Yield all documents, in order; `counts` then has the counts of this pass."""
        self.counts[:] = [SourceCount(name) for name in self.inputs]
        for source, (name, count) in enumerate(zip(self.inputs, self.counts, strict=True)):
            records = _python_docs() if name == PYTHON_DOCS else self._file_records(source)
            for record in records:
                if record is None or not all(record.texts):
                    count.skipped += 1
                    continue
                count.documents += len(record.texts)
                count.bytes += sum(len(text.encode()) for text in record.texts)
                yield from (CorpusDocument(text, record.value) for text in record.texts)

    def _file_records(self, source: int) -> Iterator[CorpusRecord | None]:
        for place, path in self.files:
            if place == source:
                lines = path.suffix == ".jsonl"
                yield from _json_lines(path, self.format) if lines else [_whole_file(path)]


def open_corpus(
    inputs: Sequence[str], include: Sequence[str] = (), shard_format: RecordKind = RecordKind.TOKENS
) -> Corpus:
    """List the files of `inputs`; of folders those that match a glob of `include`, or all.

    Raises ValueError for an input that does not exist, contains no file, or cannot hold records of
    `shard_format`.
    """
    structured = shard_format is not RecordKind.TOKENS
    if structured:
        include = include or ("*.jsonl",)
    files: list[tuple[int, Path]] = []
    total = 0
    for source, name in enumerate(inputs):
        if name == PYTHON_DOCS and not structured:
            total += sum(len(text.encode()) for record in _python_docs() for text in record.texts)
            continue
        found = _input_files(name, include)
        if not found:
            wanted = f" that matches {' or '.join(include)}" if include else ""
            raise ValueError(f"INPUT {name} has no file{wanted}")
        if structured:
            _check_structured(found, shard_format)
        files.extend((source, path) for path in found)
        total += sum(path.stat().st_size for path in found)
    return Corpus(tuple(inputs), tuple(files), total, shard_format)


def read_text(path: Path) -> str | None:
    """Return the file's text, line ends unchanged, without a byte-order mark; None if binary or not UTF-8."""
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
    raise ValueError(f"INPUT {name} is not a file or folder; {PYTHON_DOCS} and {PYTHON_STDLIB} always work")


def _walk(folder: Path, include: Sequence[str], skip: Sequence[str] = ()) -> list[Path]:
    """Return the files below `folder`, sorted; hidden files and folders (.git) are left out."""
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


def _whole_file(path: Path) -> CorpusRecord | None:
    text = read_text(path)
    return None if text is None else CorpusRecord((text,))


def _check_structured(files: Sequence[Path], shard_format: RecordKind) -> None:
    for path in files:
        if path.suffix != ".jsonl":
            fields = " and ".join(f'"{name}"' for name in _fields(shard_format))
            raise ValueError(f"{path}: --format {shard_format} reads .jsonl files whose lines have {fields}")


def _fields(shard_format: RecordKind) -> tuple[str, ...]:
    return (*_TEXTS[shard_format], *(("value",) if shard_format is RecordKind.REGRESSION else ()))


def _json_lines(path: Path, shard_format: RecordKind) -> Iterator[CorpusRecord | None]:
    """Yield the record of each line, None for a line that is not UTF-8; empty lines are skipped."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _record(line, f"{path}:{number}", shard_format)


def _record(line: bytes, place: str, shard_format: RecordKind) -> CorpusRecord | None:
    try:
        record = json.loads(line)
    except UnicodeDecodeError:
        return None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} is not valid JSON: {error}") from None
    fields = record if isinstance(record, dict) else {}
    names = _TEXTS[shard_format]
    texts = tuple(text for name in names if isinstance(text := fields.get(name), str))
    wants_value = shard_format is RecordKind.REGRESSION
    value = _number(fields.get("value")) if wants_value else None
    if len(texts) < len(names) or (wants_value and value is None):
        seen = f"the fields {sorted(record)}" if isinstance(record, dict) else f"a {type(record).__name__}"
        wanted = " and ".join(f'"{name}"' for name in names)
        several = "string fields" if len(names) > 1 else "a string field"
        number = ' and a finite number "value"' if wants_value else ""
        raise ValueError(f"{place} has {seen}; each line must be an object with {several} {wanted}{number}")
    # JSON may spell half a surrogate pair, which no UTF-8 text holds.
    if any(_SURROGATE.search(text) for text in texts):
        return None
    return CorpusRecord(texts, value)


def _number(value: object) -> float | None:
    """Return a number that a float32 holds, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < _LARGEST else None


def _python_docs() -> Iterator[CorpusRecord]:
    """Yield the topics of the language reference, as `help()` shows them, by name."""
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield CorpusRecord((topics[name],))
