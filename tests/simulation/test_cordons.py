"""Nodes whose end is announced, which runs leave at once, and cordoned ones, which they leave for others."""

from __future__ import annotations

import itertools

import pytest

from footplate_operator.runtime.kinds import POD
from footplate_operator.trainingrun.gang.drain import TOGETHER_SECONDS
from tests.support.operator_fakes import profile_manifest
from tests.support.simulation.stories import repeated, training
from tests.support.simulation.world import Simulation, simulated

MOVED = 10.0  # seconds from the notice to the next step elsewhere, 2 of which others have to join in
RELIEVED = 15.0  # the same from a cordon, in which a spare starts first
SPOT = "aws-node-termination-handler/spot-itn"


def places(world: Simulation) -> set[str]:
    """Where its live workers are."""
    return {pod["spec"]["nodeName"] for pod in world.live_workers()}


def generation(world: Simulation) -> str:
    """That stepped last."""
    return str(world.steps[-1][1])


def longest_pause(world: Simulation, since: int) -> float:
    """Seconds between two steps, of those after the first `since`."""
    moments = [moment for moment, _, _ in world.steps[since:]]
    return max(later - earlier for earlier, later in itertools.pairwise(moments))


async def moved(world: Simulation, *left: str, to: str = "1.2", within: float = MOVED) -> None:
    """A newer generation trains, no step was lost, and none of its workers is on a node that was `left`."""
    await world.until(lambda: generation(world) == to, within)
    assert repeated(world) == 0
    await world.until(lambda: world.status["restarts"] == 1 and not places(world) & set(left), 10)
    first = world.status["attempts"][0]
    assert (first["cause"], first["reason"], first["lostSteps"]) == ("Preempted", "NodeDraining", 0)
    await world.until(lambda: world.phase == "Succeeded", 120)
    assert repeated(world) == 0 and world.status["restarts"] == 1


@pytest.mark.parametrize("save", [0.2, 4.0], ids="saved-in-{}s".format)
@simulated(nodes=6)
async def test_a_cordon_under_one_worker(world: Simulation, save: float) -> None:
    place = (await training(world, 2, steps=40))[1]
    world.save_seconds = save
    world.nodes.objects.cordon(place)
    await moved(world, place, within=RELIEVED)
    message = world.status["attempts"][0]["message"]
    assert message == f"pod tiny-w1-0 on node {place} is being deleted: its node is cordoned"


@simulated(nodes=7)
async def test_nodes_cordoned_one_after_the_other_are_left_with_one_save(world: Simulation) -> None:
    first, second, _ = await training(world, 3, steps=40)
    world.nodes.objects.cordon(first)
    await world.until_seconds(0.8)
    world.nodes.objects.cordon(second)
    await moved(world, first, second)


@simulated(nodes=7)
async def test_a_node_cordoned_while_all_save_is_left_with_the_same_save(world: Simulation) -> None:
    first, second, _ = await training(world, 3, steps=40)
    world.save_seconds = 4.0
    world.nodes.objects.cordon(first)
    await world.until(lambda: world.writing > 0, 10)
    world.nodes.objects.cordon(second)
    await moved(world, first, second)


@simulated(nodes=3)
async def test_without_room_elsewhere_a_run_trains_on_and_moves_once_a_slot_is_free(
    world: Simulation,
) -> None:
    world.nodes.by_name["node-0"].slots = 0
    place = (await training(world, 2, steps=400))[1]
    world.pace = 10.0
    began = len(world.steps)
    world.nodes.objects.cordon(place)
    await world.until_seconds(2400)
    assert longest_pause(world, began) < 1.5 * world.pace
    assert world.status["restarts"] == 0 and world.phase == "Running"
    said = f"worker 1 on node {place} waits for a substitute: its node is cordoned"
    assert said in world.condition("Ready")["message"]
    world.nodes.by_name["node-0"].slots = 1
    world.nodes.reschedule()
    await world.until(lambda: generation(world) == "1.2", 40)
    assert repeated(world) == 0 and places(world) == {"node-0", "node-1"}
    assert world.status["restarts"] == 1
    await world.until_steps(2)
    assert not world.pods("spare"), "nobody asked for one"


@simulated(nodes=3)
async def test_a_substitute_without_room_goes_with_the_cordon(world: Simulation) -> None:
    world.nodes.by_name["node-0"].slots = 0
    place = (await training(world, 2, steps=120))[1]
    world.nodes.objects.cordon(place)
    await world.until(lambda: len(world.pods("spare")) == 1, 10)
    await world.until_seconds(30)
    world.nodes.objects.uncordon(place)
    await world.until(lambda: not world.pods("spare"), 10)
    await world.until(lambda: world.phase == "Succeeded", 200)
    assert world.status["restarts"] == 0 and world.status["failures"] == {}


@simulated(nodes=4)
async def test_of_two_cordoned_nodes_one_is_left_where_there_is_room_for_one(world: Simulation) -> None:
    world.nodes.by_name["node-0"].slots = 0
    places_before = (await training(world, 2, steps=150))[:2]
    world.nodes.objects.cordon(*places_before)
    await world.until(lambda: generation(world) == "1.2", TOGETHER_SECONDS + MOVED)
    assert len(places(world) & set(places_before)) == 1
    await world.until_seconds(60)
    assert world.status["restarts"] == 1 and world.phase == "Running"
    world.nodes.objects.uncordon(*places_before)
    await world.until(lambda: world.phase == "Succeeded", 300)
    assert world.status["restarts"] == 1 and repeated(world) == 0


@simulated(nodes=4)
async def test_a_worker_that_is_lost_while_its_substitute_waits_counts_once(world: Simulation) -> None:
    for name in ("node-0", "node-3"):
        world.nodes.by_name[name].slots = 0
    place = (await training(world, 2, steps=100))[1]
    world.nodes.objects.cordon(place)
    await world.until(lambda: len(world.pods("spare")) == 1, 10)
    world.nodes.end_container("tiny-w1-0", 137)
    await world.until(lambda: world.phase == "Restarting", 20)
    world.nodes.by_name["node-3"].slots = 1
    world.nodes.reschedule()
    await world.until(lambda: world.phase == "Succeeded", 300)
    assert world.status["restarts"] == 1 and world.status["failures"] == {"NodeLost": 1}
    assert not world.live_pods() or not world.pods("spare")


@simulated(nodes=3)
async def test_an_end_that_is_announced_of_a_cordoned_node_acts_at_once(world: Simulation) -> None:
    world.nodes.by_name["node-0"].slots = 0
    place = (await training(world, 2, steps=100))[1]
    world.nodes.objects.cordon(place)
    await world.until_seconds(20)
    assert world.phase == "Running"
    world.nodes.objects.taint(place, SPOT)
    await world.until(lambda: world.phase == "Restarting" and world.saved == world.step, 10)
    assert repeated(world) == 0


@simulated(nodes=4)
async def test_an_operator_that_starts_while_a_substitute_waits_keeps_it(world: Simulation) -> None:
    for name in ("node-0", "node-3"):
        world.nodes.by_name[name].slots = 0
    place = (await training(world, 2, steps=100))[1]
    world.nodes.objects.cordon(place)
    await world.until(lambda: len(world.pods("spare")) == 1, 10)
    known = [pod["metadata"]["uid"] for pod in world.pods("spare")]
    world.restart_operator()
    await world.until_seconds(40)
    assert [pod["metadata"]["uid"] for pod in world.pods("spare")] == known
    assert world.status["restarts"] == 0


@simulated(nodes=3)
async def test_a_cordon_that_is_withdrawn_in_time_moves_nothing(world: Simulation) -> None:
    place = (await training(world, 2, steps=40))[1]
    world.nodes.objects.cordon(place)
    await world.until_seconds(1.0)
    world.nodes.objects.uncordon(place)
    await world.until(lambda: world.phase == "Succeeded", 120)
    assert world.status["restarts"] == 0 and (POD, "tiny-w1-1") not in world.objects.objects


@pytest.mark.parametrize("effect", ["NoSchedule", "PreferNoSchedule", "NoExecute"])
@simulated(nodes=6)
async def test_a_taint_that_announces_an_end(world: Simulation, effect: str) -> None:
    place = (await training(world, 2, steps=40))[1]
    world.nodes.objects.taint(place, SPOT, effect)
    await moved(world, place)
    assert "its node has the taint aws-node-termination-handler/spot-itn" in str(world.status["attempts"][0])


@simulated(nodes=5)
async def test_which_taints_announce_an_end_is_the_profiles_to_say(world: Simulation) -> None:
    named = {"disruptionTaints": [{"key": "example.com/maintenance", "value": "soon"}]}
    world.objects.put(profile_manifest(scheduling=named))
    place = (await training(world, 2, steps=40))[1]
    for key in ("node.kubernetes.io/unschedulable", SPOT, "example.com/maintenance"):
        world.nodes.objects.taint(place, key)
    await world.until(lambda: world.phase == "Succeeded", 120)
    assert world.status["restarts"] == 0, "the value differs"


@pytest.mark.parametrize("toleration", [{"key": SPOT, "operator": "Exists"}, {"operator": "Exists"}])
@simulated(nodes=6)
async def test_who_tolerates_a_taint_by_name_stays(world: Simulation, toleration: dict[str, str]) -> None:
    """Who tolerates whatever there is leaves, and is not put there again."""
    world.objects.put(profile_manifest(scheduling={"tolerations": [toleration]}))
    place = (await training(world, 2, steps=40))[1]
    world.nodes.wishes |= {"tiny-w1": place}
    world.nodes.objects.taint(place, SPOT)
    if "key" not in toleration:
        await moved(world, place)
        return
    await world.until(lambda: world.phase == "Succeeded", 120)
    assert world.status["restarts"] == 0


@simulated(nodes=6)
async def test_a_spare_on_a_cordoned_node_is_replaced(world: Simulation) -> None:
    await training(world, 2, steps=40, spares=1)
    await world.until(lambda: world.status["world"].get("spares") == 1, 20)
    place = world.pods("spare")[0]["spec"]["nodeName"]
    world.nodes.objects.cordon(place)
    await world.until(
        lambda: all(pod["spec"].get("nodeName") not in ("", place) for pod in world.pods("spare")), 20
    )
    await world.until(lambda: world.status["world"].get("spares") == 1, 20)
    assert world.status["restarts"] == 0


@simulated(nodes=7)
async def test_a_spare_takes_the_slot_unless_it_has_to_leave_as_well(world: Simulation) -> None:
    world.nodes.wishes |= {"tiny-s0": "node-5"}
    place = (await training(world, 2, steps=40, spares=1))[1]
    await world.until(lambda: world.status["world"].get("spares") == 1, 20)
    world.nodes.objects.cordon(place, "node-5")
    await moved(world, place, "node-5")


@simulated(nodes=5)
async def test_a_coordinator_on_a_cordoned_node_has_a_successor_and_no_rank_notices(
    world: Simulation,
) -> None:
    await training(world, 2, steps=60)
    world.nodes.objects.cordon("node-0")
    await world.until(lambda: (POD, "tiny-c2") in world.objects.objects, 5)
    await world.until(lambda: (POD, "tiny-c1") not in world.objects.objects, 20)
    assert world.node_of("tiny-c2") != "node-0"
    await world.until(lambda: world.saved > 30, 60)
    await world.until(lambda: world.phase == "Succeeded", 120)
    assert world.status["restarts"] == 0 and repeated(world) == 0


@simulated(nodes=4)
async def test_a_coordinator_serves_on_while_its_successor_has_no_room(world: Simulation) -> None:
    await training(world, 2, steps=80)
    for name in ("node-0", "node-3"):
        world.nodes.objects.cordon(name)
    for name in ("node-1", "node-2"):
        world.nodes.objects.taint(name, "example.com/reserved")
    await world.until(lambda: (POD, "tiny-c2") in world.objects.objects, 5)
    await world.until(lambda: world.saved >= 40, 60)
    assert world.objects.objects[POD, "tiny-c1"]["status"]["phase"] == "Running"
    assert world.status["coordinator"]["epoch"] == 2
    world.nodes.objects.uncordon("node-3")
    await world.until(lambda: (POD, "tiny-c1") not in world.objects.objects, 20)
    await world.until(lambda: world.phase == "Succeeded", 120)
    assert world.status["restarts"] == 0


@simulated(nodes=6)
async def test_worker_and_coordinator_on_the_same_cordoned_node(world: Simulation) -> None:
    """The coordinator is replaced while all train; the worker leaves once its substitute waits."""
    world.nodes.wishes |= {"tiny-w1-0": "node-0"}
    await training(world, 2, steps=60)
    assert world.node_of("tiny-w1-0") == world.node_of("tiny-c1") == "node-0"
    world.save_seconds = 3.0
    world.nodes.objects.cordon("node-0")
    await world.until(lambda: generation(world) == "2.1", RELIEVED)
    await world.until(lambda: (POD, "tiny-c1") not in world.objects.objects, 20)
    await world.until(lambda: world.phase == "Succeeded", 120)
    assert repeated(world) == 0 and world.status["restarts"] == 1


@simulated(nodes=6)
async def test_a_cordon_while_the_coordinator_is_replaced(world: Simulation) -> None:
    """Its workers stay until there is somebody for whom they can save."""
    place = (await training(world, 2, steps=60))[1]
    for node in world.nodes.by_name.values():
        node.broken_for["coordinator"] = "the registry is busy: 503"
    world.nodes.end_container("tiny-c1", 137)
    world.nodes.objects.cordon(place)
    await world.until_seconds(8.0)
    for node in world.nodes.by_name.values():
        node.broken_for.clear()
    await world.until(lambda: generation(world) == "2.1", 20)
    await world.until(lambda: world.phase == "Succeeded", 120)
    assert repeated(world) == 0 and world.status["restarts"] == 1


@simulated(nodes=6)
async def test_an_operator_that_dies_in_the_middle_of_a_move(world: Simulation) -> None:
    place = (await training(world, 2, steps=60))[1]
    world.save_seconds = 4.0
    world.nodes.objects.cordon(place)
    await world.until(lambda: world.writing > 0, 10)
    world.restart_operator()
    world.save_seconds = 0.2
    await world.until(lambda: world.phase == "Succeeded", 120)
    assert repeated(world) == 0 and world.status["restarts"] == 1


@simulated(nodes=6)
async def test_a_drain_meets_the_cordon_that_it_begins_with(world: Simulation) -> None:
    place = (await training(world, 2, steps=40))[1]
    world.nodes.objects.drain(place)
    await world.until(lambda: generation(world) == "1.2", 5)
    await world.until(lambda: world.phase == "Succeeded", 120)
    first = world.status["attempts"][0]
    assert (first["cause"], first["reason"], first["lostSteps"]) == ("Preempted", "EvictionByEvictionAPI", 0)
    assert repeated(world) == 0 and world.status["restarts"] == 1
    assert world.status["internal"]["incarnation"] == 1, "one substitute was made"


@simulated(nodes=6)
async def test_a_drain_waits_for_a_save_that_takes_almost_all_of_its_time(world: Simulation) -> None:
    place = (await training(world, 2, steps=40))[1]
    deadline = world.run["spec"]["checkpoint"]["emergencyDeadlineSeconds"]
    world.save_seconds = deadline - 4.0
    world.nodes.objects.drain(place)
    await world.until(lambda: not world.nodes.on(world.nodes.by_name[place]), deadline + 60)
    world.save_seconds = 0.2
    await world.until(lambda: world.phase == "Succeeded", 120)
    assert repeated(world) == 0 and world.status["attempts"][0]["lostSteps"] == 0


@simulated(nodes=6, slots=2)
async def test_a_drain_of_a_node_with_all_workers(world: Simulation) -> None:
    """The budget lets one of them be evicted; the cordon takes the other one along."""
    world.nodes.wishes |= {"tiny-w0-0": "node-1", "tiny-w1-0": "node-1"}
    await training(world, 2, steps=60)
    world.save_seconds = 3.0
    world.nodes.objects.drain("node-1")
    await world.until(lambda: generation(world) == "1.2", MOVED)
    await world.until(lambda: world.phase == "Succeeded", 120)
    assert repeated(world) == 0 and world.status["restarts"] == 1


@simulated(nodes=6)
async def test_a_deleted_node_whose_agent_is_heard_is_left_before_its_pods_are_collected(
    world: Simulation,
) -> None:
    place = (await training(world, 2, steps=40))[1]
    world.nodes.objects.delete(place)
    await moved(world, place)


@simulated(nodes=6)
async def test_a_node_that_is_registered_anew_at_once_is_not_left(world: Simulation) -> None:
    place = (await training(world, 2, steps=40))[1]
    world.nodes.objects.delete(place)
    await world.until_seconds(1.0)
    world.nodes.objects.register(place)
    await world.until(lambda: world.phase == "Succeeded", 120)
    assert world.status["restarts"] == 0


@simulated(nodes=6)
async def test_a_run_on_other_nodes_notices_nothing(world: Simulation) -> None:
    await training(world, 2, steps=40)
    world.nodes.objects.cordon("node-4", "node-5")
    world.nodes.objects.drain("node-3")
    await world.until(lambda: world.phase == "Succeeded", 120)
    assert world.status["restarts"] == 0
