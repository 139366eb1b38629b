"""A loop over nothing asserts nothing, and a test that does only that passes whatever the code does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def nonempty(items: Iterable[T]) -> list[T]:
    """The items, of which there must be one: for loops that hold all of a test's assertions."""
    found = list(items)
    assert found, "there is nothing to look at"
    return found
