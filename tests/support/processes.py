"""The programs in a run's pods, found and signalled from outside by their pids, or from within.

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
from tests.support.runs import Json, Runs, changed

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


# -- from inside a run's pods ----------------------------------------------------------------------


HELD_AT_MOST_SECONDS: Final = 600  # as a hang floor; nothing that a test waits for takes as long


def patient(manifest: Json) -> Json:
    """`manifest` of a run that may be held."""
    return changed(manifest, "resilience.hang.floorSeconds", HELD_AT_MOST_SECONDS)


def hold(runs: Runs, pod: str, nodes: int, step: int = 1) -> None:
    """Stop a rank of `pod` as soon as `nodes` nodes train and have finished `step`.

    Started before they have, since a few steps take less time than a program in a pod takes to start.
    """
    _inside(runs, pod, f"until(lambda: trains({nodes}, {step}))\nsend(ranks()[:1], signal.SIGSTOP)")


def release(runs: Runs, pod: str) -> None:
    """Let the held rank of `pod` go on."""
    _inside(runs, pod, "send(ranks(), signal.SIGCONT)")


def wait_joined(runs: Runs, pod: str, index: int) -> None:
    """Wait until the worker of place `index` waits beside those that train; `pod` is one of these."""
    _inside(runs, pod, f"until(lambda: {index} in [agent['index'] for agent in view()['waiting']])")


def stands_in_rollout(runs: Runs, pod: str) -> bool:
    """Whether a rollout lacks nothing but what held ranks have still to sample; `pod` is not theirs.

    Those that are not held may be at it for a while, when the held ones had done their part already.
    """
    return _inside(runs, pod, "print(until_still())").strip() == "rollout"


def _inside(runs: Runs, pod: str, code: str) -> str:
    return runs.kube.kubectl("exec", pod, "-n", runs.namespace, "--", "python", "-c", _WORDS + code)


_WORDS: Final = """
import json, os, pathlib, signal, time
from footplate_elastic.agent.client import Connection, CoordinatorAddresses
from footplate_trainer.commands.diagnose import endpoint
from footplate_elastic.agent.errors import Unreachable

coordinator = Connection(CoordinatorAddresses(endpoint(os.environ)))

def view():
    try:
        return json.loads(coordinator.request('GET', '/v1/state?after=0&wait=0', None, 10.0).body)
    except Unreachable:  # it may stand on the node that a test takes away
        return {'state': 'away', 'members': [], 'waiting': [], 'progress': {}}

def trains(nodes, step):
    now = view()
    there = now['state'] == 'training' and len(now['members']) == nodes
    return there and now['progress']['step'] >= step

def until(condition):
    deadline = time.monotonic() + 180
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f'not within 180 s; the coordinator says {view()}')
        time.sleep(0.05)

# What ranks are at, once nothing has changed for two seconds.
def until_still():
    seen, since = None, time.monotonic()
    while time.monotonic() - since < 2:
        now = view()['progress']
        if (place := (now.get('phase'), now.get('finished'), now.get('step'))) != seen:
            seen, since = place, time.monotonic()
        time.sleep(0.1)
    return seen[0]

def ranks():
    found = []
    for process in pathlib.Path('/proc').glob('[0-9]*'):
        try:
            if (process / 'comm').read_text().startswith('rank-'):
                found.append(int(process.name))
        except OSError:
            continue  # it has ended meanwhile
    return sorted(found)

def send(pids, number):
    if not pids:
        raise SystemExit('no rank found')
    for pid in pids:
        os.kill(pid, number)

"""
