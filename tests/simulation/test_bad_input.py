"""What people get wrong is said within ten seconds, nothing half-made stays, and no other run notices."""

from __future__ import annotations

from footplate_operator.runtime.kinds import EVENT, SECRET
from footplate_operator.trainingrun.run import TRAINING_RUN
from tests.support.operator_fakes import NAME, run_manifest
from tests.support.simulation.world import Simulation, simulated


@simulated()
async def test_a_run_whose_folder_holds_its_end_says_so(world: Simulation) -> None:
    world.apply(training={**run_manifest()["spec"]["training"], "steps": 20})
    await world.until(lambda: world.phase == "Succeeded", 120)
    assert world.condition("Complete")["reason"] == "Finished"
    await world.until(lambda: not world.live_pods(), 120)
    trained, done = world.volume(world.run["metadata"]["uid"]), len(world.steps)
    world.delete()
    await world.until(lambda: (TRAINING_RUN, NAME) not in world.objects.objects, 20)
    world.apply(training={**run_manifest()["spec"]["training"], "steps": 20})
    world.share(trained)
    began = world.seconds()
    await world.until(lambda: world.phase == "Succeeded", 60)
    said = world.condition("Complete")
    assert (said["status"], said["reason"]) == ("True", "NothingToTrain")
    assert said["message"] == (
        "nothing was trained: checkpoint.uri /shared/checkpoints already holds the last step 20; to"
        " start over set another checkpoint.uri, to continue raise training.steps"
    )
    assert len(world.steps) == done and world.seconds() - began <= 10.0
    await world.until(lambda: "NothingToTrain" in {event["reason"] for event in world.objects.all(EVENT)}, 5)
    assert world.status["attempts"][-1]["reason"] == "NothingToTrain"
    assert world.status["checkpoint"]["latestStep"] == 20, "whoever waits for it is given what it found"


@simulated(nodes=4)
async def test_a_foreign_object_holds_up_its_own_run_alone(world: Simulation) -> None:
    world.objects.put(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tiny-run"}, "data": {"mine": ""}}
    )
    world.apply("other", training={**run_manifest()["spec"]["training"], "steps": 60})
    world.apply()
    began = world.seconds()
    await world.until(lambda: world.condition("Reconciled").get("reason") == "ChildConflict", 10)
    assert world.seconds() - began <= 10.0
    assert "delete it, or give this run another name" in world.condition("Reconciled")["message"]
    assert world.pods() == [], "nothing half-made holds a node"
    await world.until(lambda: world.phase_of("other") == "Running", 30)
    world.objects.bury(SECRET, "tiny-run")
    await world.until(lambda: world.phase == "Running", 90)
    other = world.objects.objects[TRAINING_RUN, "other"]["status"]
    assert (other["phase"] in ("Running", "Succeeded"), other["restarts"]) == (True, 0)
