"""Where a run's pods stand, for tests that take a node away."""

from __future__ import annotations

from demo.install import NAMESPACE
from tests.support.runs import Json, Runs


def node_of(pod: Json) -> str:
    """Where it stands; empty for one that has no place."""
    node: str = pod["spec"].get("nodeName", "")
    return node


def by_company(runs: Runs, name: str) -> tuple[Json, Json]:
    """The two workers of a run, once both run: first the one whose node is the better one to lose.

    Losing the coordinator, the operator or the API too is another fault, and takes half a minute longer.
    """
    workers = runs.wait_workers(name, 2)
    [coordinator] = runs.pods(name, "coordinator")
    others = (runs.kube.get("pods", "-n", NAMESPACE) or {})["items"]
    control_plane = {node_of(pod) for pod in others}

    def cost(worker: Json) -> tuple[bool, bool]:
        return node_of(worker) == node_of(coordinator), node_of(worker) in control_plane

    first, second = sorted(workers, key=cost)
    return first, second
