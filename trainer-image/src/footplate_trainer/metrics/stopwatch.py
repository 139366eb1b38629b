"""Which part of a step took how long, without waiting for the device to find out.

On a CPU the time between two calls is the time of what was called. A GPU runs
behind its host: there, events are put into the stream and read once they have
passed, at the latest a row later. The one wait that every step makes anyway is
then a wait for the device, so how much of it was communication cannot be told.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, Protocol


class Part(StrEnum):
    """Of the time between two rows; the rest is bookkeeping."""

    DATA = "data"
    COMPUTE = "compute"
    COMMUNICATION = "communication"
    OPTIMIZER = "optimizer"
    CHECKPOINT = "checkpoint"
    VALIDATION = "validation"


_ON_DEVICE: Final = (Part.COMPUTE, Part.OPTIMIZER)


class Event(Protocol):
    """A mark in a device's stream."""

    def record(self) -> None:
        """Put it behind everything asked for so far."""

    def query(self) -> bool:
        """Whether the device has passed it."""

    def elapsed_time(self, end: Any, /) -> float:
        """Milliseconds from this mark to `end`; both must have passed."""


class Stopwatch:
    """`events` makes marks for a device that runs behind its host; None where it does not."""

    def __init__(self, clock: Callable[[], float], events: Callable[[], Event] | None = None) -> None:
        self._clock = clock
        self._events = events
        self._seconds: dict[Part, float] = {}
        self._waiting: list[tuple[Part, Event, Event]] = []
        self._mark: Event | None = None
        self._last = clock()
        self.lap(None)

    def lap(self, part: Part | None) -> None:
        """The time since the last lap was spent on `part`."""
        now = self._clock()
        seconds, self._last = now - self._last, now
        if self._events is None:
            self._add(part, seconds)
            return
        begin, self._mark = self._mark, self._events()
        self._mark.record()
        if part in _ON_DEVICE and part is not None:
            assert begin is not None
            self._waiting.append((part, begin, self._mark))
        elif part is not Part.COMMUNICATION:
            self._add(part, seconds)

    def take(self) -> dict[Part, float]:
        """Seconds by part since the last call, and what the device had not finished then."""
        while self._waiting and self._waiting[0][2].query():
            part, begin, end = self._waiting.pop(0)
            self._add(part, begin.elapsed_time(end) / 1000)
        taken, self._seconds = self._seconds, {}
        return taken

    def _add(self, part: Part | None, seconds: float) -> None:
        if part is not None:
            self._seconds[part] = self._seconds.get(part, 0.0) + seconds
