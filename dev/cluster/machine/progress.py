"""Tells a person at a terminal, and a reader of a CI log, what is happening and for how long.

One line when a step ends, with its seconds; a step that takes longer also shows a line every ten
seconds, because a silent minute looks like a hang. No cursor tricks: the same text suits both.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

HEARTBEAT_SECONDS = 10.0

_print_lock = threading.Lock()


def line(elapsed: float | None, text: str) -> str:
    """One line of progress; ``elapsed`` in seconds."""
    clock = f"{elapsed:6.1f} s" if elapsed is not None else " " * 8
    return f"[cluster] {clock}  {text}"


def say(text: str, elapsed: float | None = None) -> None:
    with _print_lock:
        print(line(elapsed, text), file=sys.stderr, flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Announces ``text`` when the block ends, and while it lasts if it lasts long."""
    started = time.monotonic()
    finished = threading.Event()

    def beat() -> None:
        while not finished.wait(HEARTBEAT_SECONDS):
            say(f"{text} ...", time.monotonic() - started)

    pulse = threading.Thread(target=beat, daemon=True)
    pulse.start()
    try:
        yield
    except BaseException:
        say(f"{text}: FAILED", time.monotonic() - started)
        raise
    finally:
        finished.set()
        pulse.join()
    say(text, time.monotonic() - started)
