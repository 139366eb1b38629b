"""What every test has in common: a thread for each process that computes, little for the collector."""

from __future__ import annotations

import gc
import os

# Before torch is imported, and for all child processes. Tensors of tests are tiny: more threads only
# wait for one another, and spin while they do.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A kubectl or helm ends within a tenth of a second: collecting garbage is a quarter of what it does.
os.environ.setdefault("GOGC", "400")

gc.disable()  # imports allocate much and free nothing: collections would cost a sixth of the time


def pytest_collection_finish() -> None:
    """What was imported stays: the garbage collector need not go through it again and again."""
    gc.enable()
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """At its end a process may free all, without which libraries complain."""
    gc.unfreeze()
