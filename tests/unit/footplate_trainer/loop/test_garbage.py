"""What a full collection has to walk through while a rank trains."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from footplate_trainer.loop.training_loop import freeze_gc


class Knot:
    """Refers to itself, so only the collector can free it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def nothing_apart() -> Iterator[None]:
    """These tests start like a process of its own: without what conftest.py has set aside."""
    gc.unfreeze()
    yield
    gc.freeze()


def test_what_lasts_is_walked_through_no_more() -> None:
    knot = Knot()
    assert any(found is knot for found in gc.get_objects())
    freeze_gc()
    assert not any(found is knot for found in gc.get_objects())


def test_garbage_is_freed_and_not_kept_with_the_rest() -> None:
    knot = weakref.ref(Knot())
    assert knot() is not None
    freeze_gc()
    assert knot() is None
