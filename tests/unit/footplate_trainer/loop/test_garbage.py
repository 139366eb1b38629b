"""What a full collection has to walk through while a rank trains."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from footplate_trainer.loop.train import collected_apart


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


def test_what_lasts_is_set_aside_until_training_ends() -> None:
    with collected_apart() as set_aside:
        assert gc.get_freeze_count() == 0
        set_aside()
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0


def test_garbage_is_freed_and_not_kept_with_the_rest() -> None:
    knot = weakref.ref(Knot())
    assert knot() is not None
    with collected_apart() as set_aside:
        set_aside()
        assert knot() is None


def test_what_a_zygote_set_aside_stays_so() -> None:
    gc.freeze()
    with collected_apart() as set_aside:
        set_aside()
    assert gc.get_freeze_count() > 0
