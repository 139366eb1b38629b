"""Work in a background thread beside the training step: one task at a time, with its error for the caller."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Value = TypeVar("Value")


class OneInFlight:
    """A background runner of at most one task; the next task waits for the current one.

    Its threads are daemons, unlike those of an executor: a rank that fails must be able to exit while
    its thread waits for ranks that are gone.
    """

    def __init__(self, name: str) -> None:
        """Create the runner; its threads are called `name`."""
        self._name = name
        self._pending: Future[None] | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Start `work`, after waiting for the previous task and raising its error, if it failed."""
        self.finish()
        pending = self._pending = Future()
        threading.Thread(target=complete, args=(pending, work), name=self._name, daemon=True).start()

    @property
    def failed(self) -> bool:
        """True if the current task has ended with an error; never waits."""
        return self._pending is not None and self._pending.done() and self._pending.exception() is not None

    def finish(self) -> None:
        """Wait for the current task, if there is one, and raise its error once."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()


def complete(future: Future[Value], work: Callable[[], Value]) -> None:
    """Run `work` in this thread; `future` gets its result or its error."""
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 - the edge of a thread: who waits for the future gets it
        future.set_exception(error)
