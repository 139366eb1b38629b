"""How long a run stands still when nodes lose their power: beside a spare, without one, with the coordinator.

Operator and API stand on a node that keeps its power: losing them as well is another fault. Every
measurement has a run of its own, and mends the cluster afterwards, so that it takes about a minute.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from dataclasses import dataclass
from itertools import count
from typing import Final

from demo.kube import ROOT, Kube
from tests.support.placement import Room, coordinators_node, gather_control_plane, node_of, room_in
from tests.support.runs import Runs, changed, tiny
from tests.support.settle import settle

PATIENCE: Final = 180.0  # seconds
_numbers = count(1)


@dataclass(frozen=True)
class Case:
    """A loss: what stands where, and which nodes go."""

    title: str
    bar: float  # seconds
    workers: int
    spares: int
    apart: bool  # the coordinator stands on none of the nodes that are lost
    lost: int  # nodes


CASES: Final = (
    Case("node powered off, a spare waiting", 10, workers=2, spares=1, apart=True, lost=1),
    Case("node powered off, no spare", 20, workers=2, spares=0, apart=True, lost=1),
    Case("node powered off with the coordinator on it", 30, workers=2, spares=0, apart=False, lost=1),
    Case("two of three nodes powered off at once", 60, workers=3, spares=0, apart=True, lost=2),
)


def named(text: str) -> tuple[Case, ...]:
    """The cases whose title has `text` in it; ValueError where none has."""
    cases = tuple(case for case in CASES if text in case.title)
    if not cases:
        raise ValueError(f"{text!r}: in none of {', '.join(repr(case.title) for case in CASES)}")
    return cases


def compare(kube: Kube, runs: Runs, times: int, cases: tuple[Case, ...]) -> None:
    """Print the median and range of each case."""
    with room_in(kube) as room:
        for case in cases:
            seconds = sorted(_once(kube, runs, room, case) for _ in range(times))
            middle = statistics.median(seconds)
            print(
                f"{case.title} -> stepping: {middle:.1f} s ({seconds[0]:.1f} to {seconds[-1]:.1f},"
                f" {times} times; bar {case.bar:.0f} s)",
                flush=True,
            )


def _once(kube: Kube, runs: Runs, room: Room, case: Case) -> float:
    """Seconds from the loss to the first step after it."""
    name = f"lost-{next(_numbers)}"
    risky = gather_control_plane(kube)
    try:
        _place(kube, runs, room, case, name, risky)
        nodes = _to_lose(runs, name, case, risky)
        before = runs.metrics(name)[-1]
        at = time.time()
        for verb in ("unplug", "kill-node"):  # without power nobody closes a connection
            losses = [subprocess.Popen(["python3", "dev/cluster", verb, node], cwd=ROOT) for node in nodes]
            for loss in losses:
                loss.wait()
        return _stepping(runs, name, str(before["generation"]), at) - at
    finally:
        runs.delete(name)
        subprocess.run(["python3", "dev/cluster", "up"], cwd=ROOT, check=True)
        settle(kube)


def _place(kube: Kube, runs: Runs, room: Room, case: Case, name: str, risky: list[str]) -> None:
    """Apply a run whose coordinator stands on a node that may be lost, or on none; wait until it trains."""
    every = [str(node["metadata"]["name"]) for node in (kube.get("nodes") or {})["items"]]
    closed = risky if case.apart else [node for node in every if node not in risky]
    manifest = tiny(name, runs.namespace, steps=100_000, nodes=case.workers)
    manifest = changed(manifest, "compute.profile", room.profile)
    room.only()
    kube.kubectl("cordon", *closed)
    try:
        runs.apply(changed(manifest, "compute.spares", case.spares))
        beside = coordinators_node(runs, name)
    finally:
        kube.kubectl("uncordon", *closed)
    if case.workers > len(risky):
        room.everywhere()
    elif case.apart:
        room.only(*risky)
    else:
        room.only(beside)

    def whole() -> bool | None:
        world = runs.status(name).get("world", {})
        there = world.get("nodes", 0), world.get("spares", 0)
        return True if there == (case.workers, case.spares) else None

    runs.until("all of it to be there", whole, name, seconds=PATIENCE)
    if not case.apart:
        # Left to themselves no worker would share the coordinator's node: one stays there, one goes.
        room.only(*(node for node in risky if node != beside))
        before, at = str(runs.status(name)["world"]["generation"]), time.time()
        kube.kubectl("delete", "pod", f"{name}-w1-0", "-n", runs.namespace)
        _stepping(runs, name, before, at)
    runs.wait_step(name, runs.wait_step(name, 1, seconds=PATIENCE) + 25, seconds=PATIENCE)
    room.everywhere()


def _to_lose(runs: Runs, name: str, case: Case, risky: list[str]) -> list[str]:
    """Nodes with a worker, if possible without a spare, and with the coordinator if that is asked for."""
    coordinator = node_of(runs.pods(name, "coordinator")[-1])
    workers = {node_of(pod) for pod in runs.pods(name)}
    spares = {node_of(pod) for pod in runs.pods(name, "spare")}
    right = [node for node in risky if node in workers and (node != coordinator) == case.apart]
    right.sort(key=lambda node: node in spares)
    assert len(right) >= case.lost, f"workers on {workers}, the coordinator on {coordinator}"
    return right[: case.lost]


def _stepping(runs: Runs, name: str, generation: str, at: float) -> float:
    """The time of the first step of a generation after `generation`, in Unix seconds."""

    def stepped() -> float | None:
        rows = runs.metrics_or_none(name) or []
        after = [row["time"] for row in rows if row["time"] > at and row["generation"] != generation]
        return min(after) if after else None

    return runs.until("steps of another generation", stepped, name, seconds=PATIENCE)
