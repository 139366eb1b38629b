"""Twenty live runs, and what must be the same of them before and after something was done to their control
plane: their pods and all that the operator made for them, attempts, restarts, and every step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from demo.kube import Kube
from tests.support.runs import Json, Runs, changed, tiny

TRAINING: Final = tuple(f"trains-{number}" for number in range(3))
WAITING: Final = tuple(f"waits-{number}" for number in range(6))  # for nodes that there are not
SUSPENDED: Final = tuple(f"rests-{number}" for number in range(8))
WITHOUT_PROFILE: Final = tuple(f"asks-{number}" for number in range(3))
RUNS: Final = (*TRAINING, *WAITING, *SUSPENDED, *WITHOUT_PROFILE)
NOWHERE: Final = "nodes-that-nobody-has"
_STEPS: Final = 1_000_000
_KINDS: Final = "pods,services,configmaps,secrets,controllerrevisions.apps,poddisruptionbudgets.policy"
_RUN: Final = "footplate.dev/run"


def profile() -> Json:
    """Of nodes of which there are none: its runs have pods that wait."""
    return {
        "apiVersion": "footplate.dev/v1alpha1",
        "kind": "ComputeProfile",
        "metadata": {"name": NOWHERE},
        "spec": {
            "processesPerNode": 1,
            "backend": "gloo",
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
            "scheduling": {"nodeSelector": {"footplate.dev/nowhere": "true"}},
        },
    }


def manifests(namespace: str) -> list[Json]:
    """Of all runs; those that train are of one node, so that two cores suffice for them."""
    plain = {name: tiny(name, namespace, steps=_STEPS, nodes=1) for name in RUNS}
    for name in SUSPENDED:
        plain[name] = changed(plain[name], "suspend", True)
    for name in WAITING:
        plain[name] = changed(plain[name], "compute.profile", NOWHERE)
    for name in WITHOUT_PROFILE:
        plain[name] = changed(plain[name], "compute.profile", "nobody-wrote-it")
    return list(plain.values())


@dataclass(frozen=True)
class State:
    """Of one run."""

    phase: str
    step: int
    attempts: int
    restarts: int
    recomputed: float  # seconds of steps that had been trained before
    children: frozenset[tuple[str, str, str]]  # kind, name, uid
    pod_restarts: int


def states(runs: Runs) -> dict[str, State]:
    """Of all runs, by name."""
    children: dict[str, list[Json]] = {name: [] for name in RUNS}
    for item in _children(runs.kube, runs.namespace):
        name = item["metadata"]["labels"][_RUN]
        if name in children:
            children[name].append(item)
    return {name: _state(runs.status(name), children[name]) for name in RUNS}


def _children(kube: Kube, namespace: str) -> Iterable[Json]:
    """All that the operator made for runs, but what is on its way out."""
    listed = kube.get(_KINDS, "-n", namespace, "-l", _RUN)
    items: list[Json] = (listed or {}).get("items", [])
    return [item for item in items if "deletionTimestamp" not in item["metadata"]]


def _state(status: Json, children: Sequence[Json]) -> State:
    pods = [item for item in children if item["kind"] == "Pod"]
    containers = [known for pod in pods for known in pod["status"].get("containerStatuses", ())]
    return State(
        phase=status.get("phase", ""),
        step=status.get("progress", {}).get("step", 0),
        attempts=len(status.get("attempts", ())),
        restarts=status.get("restarts", 0),
        recomputed=status.get("time", {}).get("recomputed", 0.0),
        children=frozenset(
            (item["kind"], item["metadata"]["name"], item["metadata"]["uid"]) for item in children
        ),
        pod_restarts=sum(container["restartCount"] for container in containers),
    )


def differences(before: dict[str, State], after: dict[str, State]) -> list[str]:
    """What is not as it was, in words; that runs that train are further is as it should be."""
    return [said for name in RUNS for said in _differences(name, before[name], after[name])]


def _differences(name: str, before: State, after: State) -> Iterable[str]:
    for what in ("phase", "attempts", "restarts", "recomputed", "pod_restarts"):
        was, found = getattr(before, what), getattr(after, what)
        if was != found:
            yield f"{name}: {what} was {was} and is {found}"
    for gone in sorted(before.children - after.children):
        yield f"{name}: {' '.join(gone)} is gone"
    for made in sorted(after.children - before.children):
        yield f"{name}: {' '.join(made)} is new"
    if after.step < before.step:
        yield f"{name}: is at step {after.step} and was at {before.step}"


def missing_rows(runs: Runs) -> list[str]:
    """Steps of runs that train which their history has not got, or has twice."""
    return [said for name in TRAINING for said in _missing(name, [row["step"] for row in runs.metrics(name)])]


def _missing(name: str, steps: list[Any]) -> Iterable[str]:
    wanted = list(range(1, len(steps) + 1))
    if not steps or steps != wanted:
        yield f"{name}: has {len(steps)} rows, from {steps[:1]} to {steps[-1:]}"
