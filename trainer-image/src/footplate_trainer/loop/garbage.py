"""When Python looks for garbage.

What a rank has built by the end of its first step (torch, model, optimizer) lasts as
long as it trains. A full collection walks through all of it: a fifth of a second in the
middle of a step, on every rank at another one, and all others wait.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def collected_apart() -> Generator[Callable[[], None]]:
    """Yields what sets aside all that exists when it is called; it is let go of at the end.

    A rank that a zygote forked has what it inherited set aside already, and keeps it so.
    """
    inherited = gc.get_freeze_count() > 0
    try:
        yield _set_aside
    finally:
        if not inherited:
            gc.unfreeze()


def _set_aside() -> None:
    gc.collect()  # what is garbage now would stay for good
    gc.freeze()
