"""How much of what Python allocates stays."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable


def kept(act: Callable[[], object]) -> int:
    """Bytes that are held after `act` and were not before."""
    tracemalloc.start()
    try:
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        act()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return after - before
