"""GPUs that work again after each restart, and break again."""

from __future__ import annotations

from datetime import timedelta

from footplate_operator.runtime.kinds import POD
from footplate_operator.trainingrun.avoidance import FORGIVEN
from tests.support.simulation.stories import training
from tests.support.simulation.world import Simulation, simulated


def places(world: Simulation) -> set[str]:
    """Where its live workers are."""
    return {pod["spec"]["nodeName"] for pod in world.live_workers()}


@simulated(nodes=4)
async def test_a_gpu_that_breaks_again_and_again_costs_one_restart(world: Simulation) -> None:
    """Its node is the one with most room once the pod has ended, and would get each substitute."""
    place = (await training(world, 2, steps=400))[1]
    world.nodes.wishes["tiny-w1"] = place
    world.nodes.by_name[place].breaks_after = 10.0
    await world.until(lambda: world.status["restarts"] == 1, 40)
    attempt = world.status["attempts"][0]
    assert (attempt["cause"], attempt["reason"], attempt["node"]) == ("NodeLost", "GpuError", place)
    await world.until(lambda: world.phase == "Succeeded", 800)
    assert world.status["restarts"] == 1 and world.status["failures"] == {"NodeLost": 1}


@simulated(nodes=4)
async def test_it_is_avoided_by_an_operator_that_starts_anew(world: Simulation) -> None:
    """The coordinator and the pod that told of it are gone by then, and the status names the node."""
    place = (await training(world, 2, steps=400))[1]
    world.nodes.wishes |= {"tiny-w1": place, "tiny-w0": place}
    world.nodes.by_name[place].breaks_after = 10.0
    await world.until(lambda: world.status["restarts"] == 1, 40)
    await world.until(lambda: world.phase == "Running", 40)
    world.restart_operator()
    for name in [pod["metadata"]["name"] for pod in world.pods() if pod["status"].get("phase") == "Failed"]:
        world.objects.bury(POD, name)
    world.nodes.end_container("tiny-c1", 137)
    await world.until(lambda: (POD, "tiny-c2") in world.objects.objects, 60)
    await world.until_steps(10)
    world.nodes.end_container(sorted(pod["metadata"]["name"] for pod in world.live_workers())[0], 137)
    await world.until(lambda: world.phase == "Succeeded", 800)
    assert world.status["restarts"] == 2
    assert [attempt.get("reason") for attempt in world.status["attempts"]].count("GpuError") == 1


@simulated(nodes=3)
async def test_where_no_other_node_has_room_it_is_tried_again_after_an_hour(world: Simulation) -> None:
    world.nodes.by_name["node-0"].slots = 0
    place = (await training(world, 2, steps=100))[1]
    world.nodes.by_name[place].breaks_after = 5.0
    await world.until(lambda: world.status["restarts"] == 1, 40)
    world.nodes.by_name[place].breaks_after = None
    await world.until(lambda: "the run avoids" in world.condition("Progressing").get("message", ""), 60)
    assert f"the run avoids {place} (GpuError)" in world.condition("Progressing")["message"]
    await world.until_seconds(FORGIVEN.total_seconds() / 2)
    assert place not in places(world)
    await world.until(lambda: world.phase == "Succeeded", 2 * FORGIVEN / timedelta(seconds=1))
    assert world.status["restarts"] <= 3
