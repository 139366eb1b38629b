"""Simulations need no socket, and make many objects that go round in circles."""

from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    """What was imported stays: the garbage collector need not go through it again and again."""
    gc.collect()
    gc.freeze()
