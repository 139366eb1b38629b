"""Runs that name each other: what one waits for, what it is given, and what is kept for it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from footplate_contracts.coordinator_state import RunState
from footplate_contracts.names import RUN_CONFIG_FILE, Cause
from footplate_contracts.runconfig import RunConfig
from footplate_operator.runtime.kinds import CONFIG_MAP, POD, REVISION, Json
from footplate_operator.trainingrun.run import TRAINING_RUN
from tests.support.fake_cluster import Killed, copied
from tests.support.operator_fakes import NAME, profile_manifest, run_manifest
from tests.support.operator_world import RESYNC_SECONDS, World, running

FOLDER = "/shared/checkpoints"
LONG = {**run_manifest()["spec"]["training"], "steps": 100_000}


def put(world: World, name: str, checkpoint: str = "latest", of: str = NAME, **spec: Any) -> str:
    """A run that begins with a checkpoint of another one; its uid."""
    own = {"uri": f"/shared/{name}", "everySteps": 10}
    given = {"run": {"name": of, "checkpoint": checkpoint}}
    body = run_manifest(name, **{"initFrom": given, "checkpoint": own, **spec})
    return str(world.cluster.put(body)["metadata"]["uid"])


def body(world: World, name: str) -> Json:
    return world.cluster.objects[TRAINING_RUN, name]


def status(world: World, name: str) -> Json:
    found: Json = body(world, name).get("status", {})
    return found


def said(world: World, name: str, kind: str = "Ready") -> tuple[str, str]:
    """Reason and message of a condition."""
    (found,) = [known for known in status(world, name)["conditions"] if known["type"] == kind]
    return found["reason"], found["message"]


def phase(world: World, name: str) -> str:
    return str(status(world, name).get("phase", ""))


def pods_of(world: World, name: str) -> list[str]:
    pods = [pod["metadata"]["name"] for pod in world.cluster.all(POD)]
    return [pod for pod in pods if pod.startswith(f"{name}-")]


def edit(world: World, name: str, **spec: Any) -> None:
    changed = copied(body(world, name))
    changed["spec"] |= spec
    changed["metadata"]["generation"] += 1
    world.cluster.put(changed)


def kept(world: World, name: str = NAME) -> list[int]:
    """The checkpoints that stand, as the run's status says."""
    return [found["step"] for found in status(world, name)["checkpoint"]["kept"]]


def given(world: World, name: str = "next") -> RunConfig:
    """What ranks of the run read."""
    (config,) = [
        found
        for (kind, own), found in world.cluster.objects.items()
        if kind == CONFIG_MAP and own.startswith(f"{name}-config-")
    ]
    return RunConfig.model_validate_json(config["data"][RUN_CONFIG_FILE])


def marked(step: int) -> Json:
    promoted = [{"name": "good", "step": step}]
    return {"uri": FOLDER, "everySteps": 10, "keepLast": 9, "promoted": promoted}


async def settled(world: World) -> None:
    """Nothing is left to be done, and nobody has asked for a moment."""
    await world.reconcile()
    assert world.queue.ready() == []


async def test_a_run_waits_for_the_end_of_another_without_a_pod_and_begins_with_its_last_checkpoint() -> None:
    world = await running()
    put(world, "next")
    await world.live(4)
    assert (phase(world, "next"), pods_of(world, "next")) == ("Queued", [])
    reason, message = said(world, "next")
    assert reason == "WaitingForRun"
    assert message.startswith(
        "waits for the latest checkpoint at the end of run tiny, which is Running at step"
    )
    assert said(world, "next", "Reconciled")[0] == "AsDesired"

    await world.live(120, until=lambda: phase(world, NAME) == "Succeeded")
    await world.live(60, until=lambda: phase(world, "next") == "Running")
    entry = {
        "field": "initFrom",
        "run": NAME,
        "uid": world.run["metadata"]["uid"],
        "step": 100,
        "uri": f"{FOLDER}/step-100.e1g1",
        "digest": f"{100:064x}",
    }
    assert status(world, "next")["lineage"] == [entry]
    config = given(world)
    assert config.init_from is not None and config.init_from.uri == entry["uri"]
    assert config.lineage is not None and [known.to_json() for known in config.lineage] == [entry]


async def test_a_run_that_answers_waits_for_its_reward_model_and_has_it_kept() -> None:
    world = await running(stage="reward")
    rollout = {"maxTokens": 8, "numGenerations": 4, "output": {"uri": "/shared/answers", "best": 1}}
    judge = {"run": {"name": NAME, "checkpoint": "20"}, "weight": 2}
    put(world, "next", stage="generate", initFrom={"uri": "/models/base"}, rollout=rollout, reward=judge)
    await world.live(120, until=lambda: "lineage" in status(world, "next"))
    (entry,) = status(world, "next")["lineage"]
    assert (entry["field"], entry["run"], entry["step"]) == ("reward", NAME, 20)
    assert [told["steps"] for told in status(world, NAME)["followers"]] == [[20]]
    reward = given(world).reward
    assert reward is not None and (reward.uri, reward.run, reward.weight) == (entry["uri"], None, 2)


async def test_the_newest_that_was_heard_of_is_not_given_for_the_last_one() -> None:
    world = await running()
    put(world, "next")
    await world.live(120, until=lambda: world.coordinator().step >= 75)
    world.pass_unseen(10)
    assert world.coordinator().state is RunState.FINISHED
    (coordinator,) = [name for name in pods_of(world, NAME) if name in world.coordinators]
    world.end_pod(coordinator, 137)
    world.start_operator()
    await world.live(120, until=lambda: phase(world, NAME) == "Succeeded")
    await world.live(10)
    assert "lineage" not in status(world, "next")
    reason, message = said(world, "next")
    assert reason == "CheckpointNotFound" and "its last checkpoints were not reported" in message


@pytest.mark.parametrize("dies", [False, True], ids=["led-on", "operator-restarted"])
async def test_a_last_checkpoint_that_is_heard_of_after_the_end_counts_and_is_given(dies: bool) -> None:
    world = await running()
    put(world, "next")
    await world.live(120, until=lambda: world.coordinator().step >= 95)
    coordinator, world.trains = world.coordinator(), False
    coordinator.step, coordinator.saving, coordinator.version = 100, True, coordinator.version + 1
    await world.live(30, until=lambda: status(world, NAME)["progress"]["step"] == 100)
    coordinator.reachable, world.trains = False, True
    if dies:
        world.start_operator()
    await world.live(60, until=lambda: phase(world, NAME) == "Succeeded")
    await world.live(1)
    assert status(world, NAME)["checkpoint"]["latestStep"] == 90
    assert said(world, "next")[0] == "CheckpointNotFound"
    coordinator.reachable = True
    await world.live(60, until=lambda: bool(status(world, "next").get("lineage")))
    assert status(world, "next")["lineage"][0]["step"] == 100


async def test_the_best_is_that_of_the_end_by_validation_loss() -> None:
    world = await running(checkpoint={"uri": FOLDER, "everySteps": 10, "keepLast": 5})
    world.coordinator().losses = {70: 2.0, 80: 1.0, 90: 3.0}
    put(world, "next", "best")
    await world.live(120, until=lambda: phase(world, "next") == "Starting")
    assert status(world, "next")["lineage"][0]["step"] == 80


async def test_a_step_that_somebody_waits_for_is_kept_from_retention_until_that_one_has_ended() -> None:
    world = await running(checkpoint={"uri": FOLDER, "everySteps": 10, "keepLast": 1})
    uid = put(world, "next", "30")
    await world.live(60, until=lambda: bool(status(world, "next").get("lineage")))
    assert status(world, NAME)["followers"] == [{"name": "next", "uid": uid, "steps": [30]}]
    await world.live(20, until=lambda: status(world, NAME)["progress"]["step"] >= 60)
    assert kept(world) == [kept(world)[0], 30]

    world.cluster.bury(TRAINING_RUN, "next")
    await world.live(20, until=lambda: len(kept(world)) == 1)
    assert "followers" not in status(world, NAME)


async def test_nothing_of_a_run_that_trains_is_given_before_it_says_that_it_keeps_it() -> None:
    world = await running(checkpoint={"uri": FOLDER, "everySteps": 10, "keepLast": 9})
    await world.live(30, until=lambda: world.coordinator().step >= 40)
    put(world, "next", "20")
    seen: list[tuple[str, str]] = []

    def watch(event: str, changed: Json) -> None:
        told = changed.get("status", {})
        seen.extend((changed["metadata"]["name"], name) for name in ("followers", "lineage") if name in told)

    world.cluster.watches.append(watch)
    await world.live(30, until=lambda: phase(world, "next") == "Running")
    assert seen.index((NAME, "followers")) < seen.index(("next", "lineage"))


async def test_a_mark_is_awaited_and_may_come_after_the_end() -> None:
    world = await running(ttlSecondsAfterFinished=10)
    put(world, "next", "promoted")
    await world.live(200, until=lambda: phase(world, NAME) == "Succeeded")
    await world.live(60)
    reason, message = said(world, "next")
    assert (reason, phase(world, NAME)) == ("WaitingForRun", "Succeeded")  # and it is not deleted, though due
    assert message.endswith(
        "run tiny, which is Succeeded at step 100; mark one of its checkpoints (spec.checkpoint.promoted)"
    )
    edit(world, NAME, checkpoint=marked(90))
    await world.live(30, until=lambda: bool(status(world, "next").get("lineage")))
    assert status(world, "next")["lineage"][0]["uri"] == f"{FOLDER}/step-90.e1g1"
    await world.live(30, until=lambda: (TRAINING_RUN, NAME) not in world.cluster.objects)


@pytest.mark.parametrize("dies", [False, True], ids=["led-on", "operator-restarted"])
async def test_what_was_given_stays_whatever_becomes_of_the_other_run(dies: bool) -> None:
    world = await running()
    put(world, "next")
    await world.live(200, until=lambda: phase(world, "next") == "Running")
    before, config = status(world, "next")["lineage"], given(world)
    if dies:
        world.start_operator()
    world.cluster.bury(TRAINING_RUN, NAME)
    world.submit()
    edit(world, "next", suspend=True)
    await world.live(120, until=lambda: phase(world, "next") == "Suspended")
    edit(world, "next", suspend=False)
    await world.live(60, until=lambda: phase(world, "next") == "Running")
    assert (status(world, "next")["lineage"], given(world)) == (before, config)
    assert said(world, "next", "Reconciled")[0] == "AsDesired"


async def test_an_operator_that_dies_between_revision_and_status_gives_the_same_again() -> None:
    world = await running(checkpoint=marked(50))
    await world.live(60, until=lambda: phase(world, NAME) == "Succeeded")
    await world.live(10)
    put(world, "next", "promoted")

    def die(event: str, changed: Json) -> None:
        if changed["metadata"]["name"] == "next-1":
            raise Killed

    world.cluster.watches.append(die)
    with pytest.raises(Killed):
        await world.reconcile()
    world.cluster.watches.remove(die)
    assert (REVISION, "next-1") in world.cluster.objects and "lineage" not in status(world, "next")
    world.start_operator()
    edit(world, NAME, checkpoint=marked(60))
    await world.live(60, until=lambda: phase(world, "next") == "Running")
    assert [entry["step"] for entry in status(world, "next")["lineage"]] == [50]


async def test_an_operator_that_starts_while_a_run_waits_takes_no_run_for_missing() -> None:
    world = await running(checkpoint={"uri": FOLDER, "everySteps": 10, "keepLast": 1})
    put(world, "next", "30")
    put(world, "last")
    told = []
    world.cluster.watches.append(lambda event, changed: told.append(str(changed.get("status"))))
    for _ in range(6):
        world.start_operator()
        await world.live(1)
    await world.live(60, until=lambda: phase(world, NAME) == "Succeeded")
    await world.live(60, until=lambda: "Running" == phase(world, "next") == phase(world, "last"))
    assert [status(world, name)["lineage"][0]["step"] for name in ("next", "last")] == [30, 100]
    assert not [found for found in told if "RunNotFound" in found]


async def test_a_run_that_fails_is_told_and_one_created_anew_is_followed() -> None:
    world = await running(resilience={"restartLimits": {"UserError": 0}})
    put(world, "next")
    await world.live(2)
    worker = world.workers()[0]
    coordinator = world.coordinator()
    pod = world.cluster.objects[POD, worker]
    coordinator.fail(Cause.USER_ERROR, "PythonError", "it was wrong", pod, world.clock().timestamp())
    await world.live(60, until=lambda: phase(world, NAME) == "Failed")
    await world.live(5)
    assert said(world, "next", "Reconciled")[0] == said(world, "next")[0] == "RunFailed"

    world.cluster.bury(TRAINING_RUN, NAME)
    await settled(world)
    reason, message = said(world, "next")
    assert reason == "RunNotFound" and "initFrom.run tiny is not in this namespace: create it" in message

    uid = world.submit()
    await world.live(300, until=lambda: phase(world, "next") == "Running")
    assert status(world, "next")["lineage"][0]["uid"] == uid


async def test_runs_that_wait_for_each_other_are_told_so_and_a_chain_is_none() -> None:
    world = World()
    for name, of in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"), ("e", "d")):
        put(world, name, of=of)
    world.cluster.put(profile_manifest())
    await settled(world)
    assert [said(world, name)[0] for name in "abc"] == ["RunCycle"] * 3
    assert said(world, "a")[1].startswith("a -> b -> c -> a: each of these runs waits for the next")
    assert [said(world, name)[0] for name in "de"] == ["WaitingForRun"] * 2

    world.cluster.bury(TRAINING_RUN, "c")
    await settled(world)
    assert [said(world, name)[0] for name in "ab"] == ["WaitingForRun", "RunNotFound"]
    assert world.cluster.all(POD) == []


async def test_a_chain_goes_on_by_itself_to_its_end() -> None:
    world = World()
    put(world, "third", of="second")
    put(world, "second")
    world.submit()
    await world.live(600, until=lambda: phase(world, "third") == "Succeeded")
    lineage = [status(world, name)["lineage"][0]["run"] for name in ("second", "third")]
    assert lineage == [NAME, "second"]


async def test_a_suspended_run_that_waits_stays_suspended_and_waits_once_it_is_resumed() -> None:
    world = await running()
    put(world, "next", suspend=True)
    await world.live(2)
    assert phase(world, "next") == "Suspended"
    edit(world, "next", suspend=False)
    await world.live(2)
    assert (phase(world, "next"), said(world, "next")[0]) == ("Queued", "WaitingForRun")


async def test_a_run_that_has_ended_goes_when_its_time_has_come_though_one_stands_on_its_checkpoint() -> None:
    world = await running(ttlSecondsAfterFinished=5)
    put(world, "next")
    await world.live(200, until=lambda: phase(world, "next") == "Running")
    await world.live(30, until=lambda: (TRAINING_RUN, NAME) not in world.cluster.objects)
    await world.live(200, until=lambda: phase(world, "next") == "Succeeded")


async def test_a_follower_that_went_while_no_watch_was_open_is_kept_nothing_for() -> None:
    world = await running(checkpoint={"uri": FOLDER, "everySteps": 10, "keepLast": 1}, training=LONG)
    put(world, "next", "20000")
    await world.live(10, until=lambda: bool(status(world, NAME).get("followers")))
    world.watches.cut = True
    world.cluster.bury(TRAINING_RUN, "next")
    world.watches.cut = False
    await world.live(2 * RESYNC_SECONDS, until=lambda: "followers" not in status(world, NAME))


async def test_a_run_that_somebody_waits_for_is_not_deleted_before_the_watch_tells_so() -> None:
    world = await running(ttlSecondsAfterFinished=60)
    await world.live(200, until=lambda: phase(world, NAME) == "Succeeded")
    await world.live(20)
    put(world, "next")
    world.clock.advance(120)
    world.start_operator()
    world.watches.late = {"next"}
    await world.live(5)
    assert (TRAINING_RUN, NAME) in world.cluster.objects
    world.watches.late = set()
    await world.live(60, until=lambda: bool(status(world, "next").get("lineage")))
    await world.live(60, until=lambda: (TRAINING_RUN, NAME) not in world.cluster.objects)


async def test_each_run_of_a_cycle_is_told_of_it_and_of_its_end() -> None:
    world = World()
    world.cluster.put(profile_manifest())
    for name, of in pairwise("abcdefgh"):
        put(world, name, of=of)
        await settled(world)
    put(world, "h", of="a")
    await settled(world)
    assert [said(world, name)[0] for name in "abcdefgh"] == ["RunCycle"] * 8
    world.cluster.bury(TRAINING_RUN, "d")
    await settled(world)
    assert [said(world, name)[0] for name in "abefgh"] == ["WaitingForRun"] * 6
    assert said(world, "c")[0] == "RunNotFound"


async def test_a_cycle_is_not_told_of_a_run_that_is_gone() -> None:
    world = World()
    world.cluster.put(profile_manifest())
    put(world, "a", of="b")
    await settled(world)
    put(world, "b", of="a")
    world.watches.late = {"a"}
    await settled(world)
    world.watches.cut = True
    world.cluster.bury(TRAINING_RUN, "a")
    world.watches.cut = False
    put(world, "b", of="a")
    await settled(world)
    assert said(world, "b")[0] == "RunNotFound"
