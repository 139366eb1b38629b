"""Limit on the concurrent requests of each caller."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from footplate_api.errors import ApiError


class PerCallerLimit:
    """Limit of `most` concurrent requests a name; `refusal` creates the error beyond it."""

    def __init__(self, most: int, refusal: Callable[[], ApiError]) -> None:
        self._most = most
        self._refusal = refusal
        self._under_way: Counter[str] = Counter()

    @contextmanager
    def acquire(self, name: str) -> Iterator[None]:
        """Count a request of `name` while the block runs; raises the refusal beyond the limit."""
        if self._under_way[name] >= self._most:
            raise self._refusal()
        self._under_way[name] += 1
        try:
            yield
        finally:
            self._under_way[name] -= 1
            if not self._under_way[name]:
                del self._under_way[name]
