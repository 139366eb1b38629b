"""The programs in a run's pods, found and signalled from outside by their pids.

It needs the native cluster, whose pods are processes of this machine. Nothing is started for it, as
`kubectl exec` would: a look takes a millisecond, so a rank can be held within the moment that matters.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cluster.native import pods
from cluster.native.faults import find
from cluster.native.pods import Process
from tests.support.placement import node_of
from tests.support.runs import Json

LOOK: Final = 0.004  # seconds between two looks for something that lasts a few hundredths of one
_ZYGOTE: Final = "footplate_elastic.agent.zygote"


def of(pod: Json) -> list[Process]:
    """All programs of the pod, oldest first; none where it has no node or has ended."""
    place = node_of(pod)
    return pods.processes(find(place), pod["metadata"]["uid"]) if place else []


def main(pod: Json) -> list[Process]:
    """The program that the container was started with, such as an agent or a coordinator; none after it."""
    return of(pod)[:1]


def ranks(pod: Json) -> list[Process]:
    """The pod's ranks, in the order of their start."""
    return [process for process in of(pod) if process.name.startswith("rank-")]


def zygote(pod: Json) -> list[Process]:
    """The process that imports, and that ranks are forked from; none before it has started."""
    return [process for process in of(pod)[1:] if _ZYGOTE in process.argv][:1]


@dataclass
class Grip:
    """Processes that a test has stopped, and lets go on."""

    held: list[Process] = field(default_factory=list)

    def stop(self, *processes: Process) -> None:
        """Stop them and hold them; one that ends meanwhile is none of ours."""
        for process in processes:
            if process.signal(signal.SIGSTOP):
                self.held.append(process)
        wait_for(lambda: all(process.stopped or not process.alive for process in self.held), 5.0)

    def let_go(self) -> None:
        """Let those that are still there go on."""
        for process in self.held:
            process.signal(signal.SIGCONT)
        self.held.clear()

    @property
    def holds(self) -> bool:
        """Whether all that were stopped stand still."""
        return bool(self.held) and all(process.stopped for process in self.held)


def wait_for(condition: Callable[[], bool], seconds: float, look: float = LOOK) -> None:
    """Raises TimeoutError unless the condition holds within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s")
        time.sleep(look)


def abort(process: Process, words: str) -> None:
    """Write last words to a process's stderr and end it by SIGABRT."""
    told = Path(f"/proc/{process.pid}/fd/2")
    with suppress(FileNotFoundError, ProcessLookupError), told.open("wb", buffering=0) as stderr:
        stderr.write(f"{words}\n".encode())  # else it has ended
    process.signal(signal.SIGABRT)


def send(processes: Iterable[Process], number: int) -> None:
    """A signal to each that is still there."""
    for process in processes:
        process.signal(number)
