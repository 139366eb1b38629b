"""How stories begin."""

from __future__ import annotations

from typing import Any

from tests.support.operator_fakes import run_manifest
from tests.support.simulation.world import Simulation


async def training(world: Simulation, nodes: int, steps: int = 100, **compute: Any) -> list[str]:
    """Train on `nodes` nodes, the coordinator on node-0; the nodes of the workers, by index.

    What was wished for before stays.
    """
    usual = {f"tiny-w{index}-0": f"node-{index + 1}" for index in range(nodes)}
    world.nodes.wishes = {"tiny-c": "node-0"} | usual | world.nodes.wishes
    length = {**run_manifest()["spec"]["training"], "steps": steps}
    world.apply(compute={"profile": "local-cpu", "nodes": nodes, **compute}, training=length)
    await world.until(lambda: world.phase == "Running", 30)
    await world.until_steps(5)
    return [world.node_of(f"tiny-w{index}-0") for index in range(nodes)]


def repeated(world: Simulation) -> int:
    """Steps that were trained more than once."""
    return len(world.steps) - len({step for _, _, step in world.steps})
