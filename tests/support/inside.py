"""What tests do inside a run's pods: stop ranks, let them go on, ask who waits.

Held ranks make a test independent of speed: while one rank stands still no rank gets further, so a
pod may take its time to start without the run ending before it. Runs that are held for long need a
`resilience.hang.floorSeconds` above that time.
"""

from __future__ import annotations

from typing import Final

from tests.support.runs import Json, Runs, changed

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
