"""An asyncio event loop whose time passes only while nobody has anything to do."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

Result = TypeVar("Result")
Given = ParamSpec("Given")


class Standstill(RuntimeError):
    """Everybody waits for somebody else, for ever."""


class _NoWaiting(selectors.SelectSelector):
    """Waits no real second: it moves the loop's clock by as much."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Standstill("nothing will ever happen again")
        self.loop.passed += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` is virtual. Nothing real may be waited for in it: no socket, no thread, no process."""

    def __init__(self) -> None:
        self.passed = 0.0
        selector = _NoWaiting()
        selector.loop = self
        super().__init__(selector)
        # Timers are due within a microsecond: sums of intervals are not exact.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self.passed


def run(story: Coroutine[Any, Any, Result]) -> Result:
    """Run `story` in a loop of its own to its end."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(story)


def in_virtual_time(test: Callable[Given, Coroutine[Any, Any, None]]) -> Callable[Given, None]:
    """`test` in a loop of its own, in which seconds pass at once."""

    @wraps(test)
    def runs(*args: Given.args, **kwargs: Given.kwargs) -> None:
        run(test(*args, **kwargs))

    return runs


# -- a clock of that time --------------------------------------------------------------------------


BEGIN: Final = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


class Clock:
    """The moment that the virtual loop has come to."""

    def __call__(self) -> datetime:
        return BEGIN + timedelta(seconds=asyncio.get_running_loop().time())
