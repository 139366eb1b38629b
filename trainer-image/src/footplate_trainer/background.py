"""Work behind the step, in a thread of its own: one piece at a time, and its error for whoever waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future


class OneInFlight:
    """At most one piece of work under way; the next one waits for it.

    The threads are daemons, which no executor's are: a rank that fails must be able to end while
    its thread waits for ranks that are gone.
    """

    def __init__(self, name: str) -> None:
        """`name` is that of the threads."""
        self._name = name
        self._pending: Future[None] | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Begin `work`. First waits for the one before, and raises what that raised."""
        self.finish()
        pending = self._pending = Future()
        threading.Thread(target=_run, args=(work, pending), name=self._name, daemon=True).start()

    @property
    def failed(self) -> bool:
        """Whether the work under way has ended with an error; never waits."""
        return self._pending is not None and self._pending.done() and self._pending.exception() is not None

    def finish(self) -> None:
        """Wait for the work under way, if there is any; raises, once, what it raised."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()


def _run(work: Callable[[], None], pending: Future[None]) -> None:
    try:
        work()
        pending.set_result(None)
    except BaseException as error:  # noqa: BLE001 - the edge of a thread: whoever waits gets it
        pending.set_exception(error)
