"""Measures the time of each part of a step without waiting for the device.

On a CPU the time between two calls is the time of the code between them. A GPU runs behind its host: there,
events are recorded in the stream and read once they have passed, at the latest a row later. The one wait that
every step makes anyway is then a wait for the device, so the share of communication in it cannot be measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Final

from torch import Event


class StepPart(StrEnum):
    """Part of the time from step to step; the rest is bookkeeping. Each part has its column in a row."""

    DATA = "data"
    COMPUTE = "compute"
    COMMUNICATION = "communication"
    OPTIMIZER = "optimizer"
    CHECKPOINT = "checkpoint"
    VALIDATION = "validation"
    ROLLOUT = "rollout"
    SCORING = "scoring"

    @property
    def column(self) -> str:
        """The field of StepMetrics for its seconds."""
        return f"{self}_seconds"


_ON_DEVICE: Final = (StepPart.COMPUTE, StepPart.OPTIMIZER)


class Stopwatch:
    """Stopwatch of a step's parts; `events` makes events of an asynchronous device, None for a CPU."""

    def __init__(self, clock: Callable[[], float], events: Callable[[], Event] | None = None) -> None:
        self._clock = clock
        self._events = events
        self._seconds: dict[StepPart, float] = {}
        self._waiting: list[tuple[StepPart, Event, Event]] = []
        self._mark: Event | None = None
        self._within: StepPart | None = None
        self._last = self._taken = clock()
        self.lap(None)

    def lap(self, part: StepPart | None) -> None:
        """Attribute the time since the last lap to `part`."""
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
        elif part is not StepPart.COMMUNICATION:
            self._add(part, seconds)

    @contextmanager
    def time(self, part: StepPart) -> Iterator[None]:
        """Attribute the block's time to `part`, except for nested blocks, which have parts of their own."""
        around, self._within = self._within, part
        self.lap(around)
        yield
        self.lap(part)
        self._within = around

    def read_and_reset(self) -> tuple[float, dict[StepPart, float]]:
        """Return the seconds since the last call, and those by part, with device time pending then."""
        while self._waiting and self._waiting[0][2].query():
            part, begin, end = self._waiting.pop(0)
            self._add(part, begin.elapsed_time(end) / 1000)
        parts, self._seconds = self._seconds, {}
        now = self._clock()
        seconds, self._taken = now - self._taken, now
        return seconds, parts

    def _add(self, part: StepPart | None, seconds: float) -> None:
        if part is not None:
            self._seconds[part] = self._seconds.get(part, 0.0) + seconds
