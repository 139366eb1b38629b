"""Penalty box: rejects senders whose request bodies timed out, for a while."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from footplate_api.errors import HttpError, TooBusy

MOST: Final = 20_000  # that are remembered
_TOO_SLOW: Final = 408


class PenaltyBox:
    """Senders whose requests are refused for `seconds` after a 408; `clock` is monotonic, in seconds."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic, most: int = MOST) -> None:
        self._seconds = seconds
        self._clock = clock
        self._most = most
        self._until: OrderedDict[str, float] = OrderedDict()  # the earliest first

    @contextmanager
    def guard(self, name: str) -> Iterator[None]:
        """Raise TooBusy if `name` is in the penalty box; put it there if the block raises a 408."""
        left = self._until.get(name, 0.0) - self._clock()
        if left > 0.0:
            error = TooBusy("An earlier batch of this sender timed out; send this one again later.")
            error.retry_after = math.ceil(left)
            raise error
        try:
            yield
        except HttpError as error:
            if error.status == _TOO_SLOW:
                self._note(name)
            raise

    def _note(self, name: str) -> None:
        self._until[name] = self._clock() + self._seconds
        self._until.move_to_end(name)
        if len(self._until) > self._most:
            self._until.popitem(last=False)
