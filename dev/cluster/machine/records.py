"""What is running, in files that a later command, or one after a crash, can trust.

A process is its pid **and** its start time: pids are reused, and ending whatever has a recorded
pid by now would end a stranger.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Record:
    """One process of ours."""

    name: str
    pid: int
    start_time: int  # clock ticks since boot, field 22 of /proc/PID/stat
    argv: tuple[str, ...]


def encode(record: Record) -> str:
    return json.dumps(asdict(record), indent=1)


def decode(text: str) -> Record | None:
    """The record in ``text``; None where a crash left half a file."""
    try:
        raw = json.loads(text)
        argv = tuple(str(word) for word in raw["argv"])
        return Record(str(raw["name"]), int(raw["pid"]), int(raw["start_time"]), argv)
    except (ValueError, KeyError, TypeError):
        return None


def start_time(stat: str) -> int | None:
    """The start time in the text of /proc/PID/stat; None for a zombie, which runs no more."""
    # The command's name stands in parentheses and may itself hold spaces and parentheses.
    fields = stat.rpartition(")")[2].split()
    if len(fields) < 20 or fields[0] in ("Z", "X"):
        return None
    return int(fields[19])


def observed_start_time(pid: int) -> int | None:
    """When the process with this pid started; None where there is none."""
    try:
        return start_time(Path(f"/proc/{pid}/stat").read_text())
    except OSError:
        return None


def alive(record: Record) -> bool:
    return observed_start_time(record.pid) == record.start_time


def write_whole(path: Path, text: str, mode: int = 0o644) -> None:
    """Writes a file that is there completely or not at all; several processes may do so at once."""
    with _written_beside(path) as new:
        new.write_text(text)
        new.chmod(mode)


def link_whole(path: Path, target: Path) -> None:
    """Makes `path` a symbolic link to `target`; several processes may do so at once."""
    with _written_beside(path) as new:
        new.symlink_to(target)


@contextmanager
def _written_beside(path: Path) -> Iterator[Path]:
    """A name that no other process has, for what becomes `path` at the end of the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        new = Path(folder) / path.name
        yield new
        new.rename(path)


class Records:
    """The folder of process records, a file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, record: Record) -> None:
        write_whole(self._folder / f"{record.name}.json", encode(record))

    def get(self, name: str) -> Record | None:
        try:
            return decode((self._folder / f"{name}.json").read_text())
        except OSError:
            return None

    def all(self) -> list[Record]:
        found = (self.get(path.stem) for path in sorted(self._folder.glob("*.json")))
        return [record for record in found if record is not None]

    def forget(self, name: str) -> None:
        (self._folder / f"{name}.json").unlink(missing_ok=True)
