"""Progress of a long step, for a person or a log.

On a terminal a bar; elsewhere one line every few seconds, because a bar's control characters make a log
unreadable.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

LINE_INTERVAL = 2.0  # seconds
Advance = Callable[[int], None]


@contextmanager
def progress(label: str, total_bytes: int, *, bar: bool = True) -> Iterator[Advance]:
    """Yield advance(bytes), which shows on stderr how much of `total_bytes` is done.

    Without `bar` nothing is shown on a terminal, where another library shows its own bar.
    """
    if sys.stderr.isatty() and not bar:
        yield lambda count: None
    elif sys.stderr.isatty():
        with _bar(label, total_bytes) as advance:
            yield advance
    else:
        line = ProgressLine(label, total_bytes, time.monotonic, print_status)
        yield line.advance
        line.close()


def print_status(text: str) -> None:
    """Print one line to stderr and flush it."""
    print(text, file=sys.stderr, flush=True)


class ProgressLine:
    """Progress as log lines, at most one in LINE_INTERVAL seconds and one at the end."""

    def __init__(
        self, label: str, total_bytes: int, clock: Callable[[], float], write: Callable[[str], None]
    ) -> None:
        self.label = label
        self.total = total_bytes
        self.done = 0
        self._clock = clock
        self._write = write
        self._started = self._last = clock()

    def advance(self, count: int) -> None:
        """Add `count` bytes to those done."""
        self.done += count
        if self._clock() - self._last >= LINE_INTERVAL:
            self._last = self._clock()
            percent = 100 * self.done // max(self.total, self.done, 1)
            self._write(
                f"[pack] {self.label}: {megabytes(self.done)} of {megabytes(self.total)} ({percent} %)"
            )

    def close(self) -> None:
        """Write the last line."""
        seconds = self._clock() - self._started
        self._write(f"[pack] {self.label}: {megabytes(self.done)} in {seconds:.1f} s")


def megabytes(count: int) -> str:
    """Format `count` bytes for people."""
    return f"{count / 1e6:.1f} MB"


@contextmanager
def _bar(label: str, total_bytes: int) -> Iterator[Advance]:
    columns = (
        TextColumn(r"\[pack] {task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total_bytes)
        yield lambda count: bar.advance(task, count)
