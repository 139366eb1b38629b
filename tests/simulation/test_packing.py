"""Gangs that are packed into one topology domain."""

from __future__ import annotations

from typing import Any, Final

from footplate_contracts.rendezvous import SealedGeneration
from footplate_operator.runtime.kinds import NODE, POD
from tests.support.operator_fakes import profile_manifest
from tests.support.simulation.stories import training
from tests.support.simulation.world import Simulation, simulated

RACK: Final = "example.com/rack"
SECONDS: Final = 10.0  # within which a condition says what is wrong


def pack(world: Simulation, racks: str, **more: Any) -> None:
    """Put node i into the rack `racks[i]`, and pack gangs by it; "-" is no rack."""
    for number, rack in enumerate(racks):
        if rack != "-":
            world.nodes.objects.label(f"node-{number}", **{RACK: rack})
    placement = {"pack": {"topologyKey": RACK, "required": True, **more}}
    world.objects.put(profile_manifest(scheduling={"placement": placement}))


async def trains(world: Simulation, **compute: int) -> None:
    """Create a run, and wait until it trains."""
    world.apply(compute={"profile": "local-cpu", **compute})
    await world.until(lambda: len(world.steps) >= 2, 60)


def racks(world: Simulation) -> list[str]:
    """The racks of the live workers, in the order of their ranks."""
    sealed = world.coordinator().service.coordinator.state.sealed
    assert isinstance(sealed, SealedGeneration)
    labels = [
        world.objects.objects[NODE, member.agent.node_name]["metadata"]["labels"] for member in sealed.members
    ]
    return [found[RACK] for found in labels]


@simulated(nodes=8)
async def test_a_gang_is_in_the_one_rack_that_has_room_for_it(world: Simulation) -> None:
    pack(world, "aabbbbcc")
    await trains(world, nodes=4)
    assert racks(world) == ["b"] * 4
    assert world.status["restarts"] == 0
    world.check_invariants()


@simulated(nodes=8)
async def test_a_substitute_and_a_spare_are_in_the_rack_of_their_gang(world: Simulation) -> None:
    pack(world, "aaaabbbb")
    await trains(world, nodes=2, spares=1)
    (rack,) = set(racks(world))
    await world.until(lambda: bool(world.pods("spare")), 10)
    for lost in (0, 1):
        world.power_off(world.node_of(world.pods("worker")[lost]["metadata"]["name"]))
        await world.until_steps(3, 120)
        assert set(racks(world)) == {rack}


@simulated(nodes=6)
async def test_where_it_is_only_preferred_a_gang_is_in_two_racks_and_ranks_follow_them(
    world: Simulation,
) -> None:
    pack(world, "ababab", required=False)
    await training(world, 4)
    assert racks(world) == ["b", "b", "a", "a"]  # worker 0 is on node-1
    world.check_invariants()


@simulated(nodes=3)
async def test_a_label_that_no_node_has_is_said_before_a_pod_is_made(world: Simulation) -> None:
    pack(world, "---")
    world.apply(compute={"profile": "local-cpu", "nodes": 2})
    await world.until(lambda: world.condition("Ready").get("reason") == "TopologyUnknown", SECONDS)
    assert "scheduling.placement.pack.topologyKey example.com/rack" in world.condition("Ready")["message"]
    assert not world.objects.all(POD)
    world.nodes.objects.label("node-1", **{RACK: "a"})
    world.nodes.objects.label("node-2", **{RACK: "a"})
    await world.until(lambda: len(world.steps) >= 2, 60)
    assert racks(world) == ["a", "a"]


@simulated(nodes=4)
async def test_a_gang_that_cannot_be_whole_in_its_rack_moves_to_another(world: Simulation) -> None:
    pack(world, "aabb")
    world.nodes.wishes = {"tiny-w0-0": "node-0", "tiny-c": "node-2"}
    world.apply(resilience={"gatherDeadlineSeconds": 60})
    await trains(world, nodes=2)
    assert racks(world) == ["a", "a"]
    world.power_off("node-1")
    await world.until_steps(1, 600)
    assert racks(world) == ["b", "b"]
    world.check_invariants()
