"""What a fault leaves to be undone: by the clock, and when all runs have ended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cluster.errors import ClusterError
from demo.kube import DemoError

PAUSE: Final = 30.0  # seconds that a process stands still
OUTAGE: Final = 20.0  # seconds without etcd, or a disk
RESTART: Final = 3.0  # seconds without an API server


@dataclass
class Mending:
    """What is to be undone: by the clock, and at the end."""

    timers: list[threading.Timer] = field(default_factory=list)
    last: list[Callable[[], object]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        """Do it after so many seconds."""

        def acted() -> None:
            try:
                act()
            except (AssertionError, ClusterError, DemoError, OSError) as error:
                self.errors.append(str(error))

        timer = threading.Timer(seconds, acted)
        timer.start()
        self.timers.append(timer)

    def at_end(self, act: Callable[[], object]) -> None:
        """Do it when all runs have ended."""
        self.last.append(act)

    def wait(self) -> None:
        """Until the clock has mended all that it is to mend."""
        for timer in self.timers:
            timer.join()

    def finish(self) -> None:
        """Wait for the clock, then do what is left; raises AssertionError where something failed."""
        self.wait()
        for act in reversed(self.last):
            act()
        self.last.clear()
        assert not self.errors, self.errors
