"""How much of what all share one caller may have under way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from footplate_api.errors import ApiError


class Shares:
    """At most `most` at once for each name; `refusal` makes the error for who has as many already."""

    def __init__(self, most: int, refusal: Callable[[], ApiError]) -> None:
        self._most = most
        self._refusal = refusal
        self._under_way: Counter[str] = Counter()

    @contextmanager
    def one(self, name: str) -> Iterator[None]:
        """One more of `name`, for as long as the block takes."""
        if self._under_way[name] >= self._most:
            raise self._refusal()
        self._under_way[name] += 1
        try:
            yield
        finally:
            self._under_way[name] -= 1
            if not self._under_way[name]:
                del self._under_way[name]
