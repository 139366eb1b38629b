"""What a run says that it has cost, from its first pod to long after its last."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from footplate_contracts.v1alpha1.status import CostStatus, TimeStatus
from footplate_contracts.v1alpha1.usagerecord import PodUsage, UsageRecordSpec
from footplate_ledger.conversion import parse_time
from footplate_ledger.intervals import unix_second
from footplate_operator.errors import RequestForbidden
from footplate_operator.profiles import PROFILE
from footplate_operator.runtime.kinds import POD, Json
from footplate_operator.runtime.throttle import StatusChange
from footplate_operator.trainingrun.run import TRAINING_RUN, decode
from footplate_operator.trainingrun.run_cache import RunCache
from footplate_operator.trainingrun.status.report import STATUS_LIMIT, bytes_of, compare
from footplate_operator.usage.writes import USAGE_RECORD
from tests.support.operator_fakes import NAME, run_manifest
from tests.support.operator_world import World

GPUS = {
    "gpu": {
        "count": 2,
        "product": "H100",
        "memoryGiB": 80,
        "peakTflops": {"bf16": 989, "fp32": 67},
        "tdpWatts": 700,
    }
}
METADATA = {
    "name": NAME,
    "namespace": "default",
    "uid": "u1",
    "creationTimestamp": "2026-01-31T12:00:00Z",
}
LONG = {**run_manifest()["spec"]["training"], "steps": 10_000}


async def trains(**spec: Any) -> World:
    """A run whose workers have two devices each."""
    world = World()
    world.submit(training=LONG, **spec)
    profile = world.cluster.objects[PROFILE, "local-cpu"]
    world.cluster.put({**profile, "spec": {**profile["spec"], **GPUS}})
    await world.live(30, until=lambda: world.phase == "Running")
    return world


def recorded(world: World) -> list[PodUsage]:
    specs = [UsageRecordSpec.from_json(body["spec"]) for body in world.cluster.all(USAGE_RECORD)]
    return [pod for spec in specs for pod in spec.pods.values()]


def held(world: World) -> int:
    """Seconds of devices by the records, of pods that have all ended."""
    return sum(pod.devices * (parse_time(pod.end or "") - parse_time(pod.start)) for pod in recorded(world))


def devices(status: Json) -> dict[str, float]:
    found: dict[str, float] = status["cost"]["deviceSeconds"]
    return found


async def test_while_it_trains_its_devices_are_productive() -> None:
    world = await trains()
    await world.live(10)
    before = devices(world.status)
    await world.live(60)
    after = devices(world.status)
    grown = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert set(grown) == {"productive"} and grown["productive"] == pytest.approx(240, abs=20)
    assert {pod.role.value: pod.devices for pod in recorded(world)} == {"worker": 2, "coordinator": 0}


async def test_what_it_has_cost_is_right_once_all_has_ended() -> None:
    world = await trains()
    await world.live(20)
    world.change(suspend=True)
    await world.live(60, until=lambda: world.phase == "Suspended")
    await world.live(40)
    cost = world.status["cost"]
    assert sum(devices(world.status).values()) == held(world) > 0
    assert cost["nodeSeconds"] > 0 and cost["unpricedNodeSeconds"] == cost["nodeSeconds"]
    assert "dollars" not in cost and cost["method"] == "rated 100 %" and cost["devicesOnly"]
    version = world.run["metadata"]["resourceVersion"]
    await world.live(310)
    assert world.run["metadata"]["resourceVersion"] == version, "nothing is written of what stands"


async def test_another_operator_goes_on_where_the_last_one_was() -> None:
    world = await trains()
    await world.live(30)
    before = sum(devices(world.status).values())
    world.start_operator()
    await world.live(60)
    after = sum(devices(world.status).values())
    assert after - before == pytest.approx(240, abs=20)
    assert len({pod.name for pod in recorded(world)}) == len(recorded(world)) == 3


async def test_operators_that_are_started_again_and_again_note_that_pods_go_on() -> None:
    """None of them leads for the minute after which that is noted again."""
    world = await trains()
    for _ in range(5):
        await world.live(45)
        world.start_operator()
    await world.live(15)
    seen = [parse_time(pod.seen or "") for pod in recorded(world)]
    assert unix_second(world.clock()) - min(seen) <= 90


async def test_without_its_records_a_run_says_what_it_said_last() -> None:
    world = await trains()
    cost = world.status["cost"]
    world.start_operator()
    world.cluster.refuse["get", USAGE_RECORD] = RequestForbidden("no right", 403)
    await world.live(60)
    assert world.status["cost"] == cost and world.status["progress"]["step"] > 100
    world.cluster.refuse.clear()
    await world.live(90)
    assert world.status["cost"]["until"] > cost["until"]


async def test_a_budget_is_not_said_to_be_kept_while_the_records_cannot_be_read() -> None:
    world = World()
    world.cluster.refuse["get", USAGE_RECORD] = RequestForbidden("no right", 403)
    world.submit(budget={"dollars": 60}, training=LONG)
    await world.live(90)
    said = world.condition("WithinBudget")
    assert (said["status"], said["reason"]) == ("Unknown", "SpendingUnknown")
    world.cluster.refuse.clear()
    await world.live(90)
    assert world.condition("WithinBudget")["reason"] == "PriceUnknown"


async def test_training_waits_for_no_record() -> None:
    world = World()
    for verb in ("create", "merge"):
        world.cluster.refuse[verb, USAGE_RECORD] = RequestForbidden("no right", 403)
    world.submit()
    await world.live(120, until=lambda: world.phase == "Succeeded")
    assert not recorded(world) and world.status["cost"]["nodeSeconds"] > 0
    world.cluster.refuse.clear()
    await world.live(90)
    assert {pod.role.value for pod in recorded(world)} == {"worker", "coordinator"}
    assert all(pod.end and not pod.estimated for pod in recorded(world) if pod.role == "worker")


async def test_each_attempt_has_its_pods() -> None:
    world = await trains()
    world.end_pod("tiny-w1-0", 1)
    await world.live(60, until=lambda: world.phase == "Running" and len(world.status["attempts"]) == 2)
    attempts = {pod.name: pod.attempt for pod in recorded(world)}
    assert attempts["tiny-w0-0"] == attempts["tiny-w1-0"] == 1 and attempts["tiny-w1-1"] == 2


async def test_a_deleted_run_leaves_what_it_used() -> None:
    world = await trains()
    world.cluster.bury(TRAINING_RUN, NAME)
    await world.live(60)
    assert not world.cluster.all(POD) and len(recorded(world)) == 3
    assert all(pod.end for pod in recorded(world))
    assert all(body["spec"]["completed"] for body in world.cluster.all(USAGE_RECORD))


async def test_a_pod_that_outlives_its_run_is_in_what_that_says_at_last() -> None:
    world = await trains(resilience={"restartLimits": {"OutOfMemory": 0}})
    lost = world.cluster.objects[POD, "tiny-w0-0"]["metadata"]["uid"]
    world.unreachable.add(lost)
    world.end_pod("tiny-w1-0", 137, terminated="OOMKilled")
    await world.live(60, until=lambda: world.phase == "Failed")
    await world.live(20)
    before = devices(world.status)
    await world.live(20)
    world.unreachable.clear()
    await world.live(20)
    assert all(pod.end for pod in recorded(world))
    assert sum(before.values()) < sum(devices(world.status).values()) == held(world)


def test_the_time_that_has_passed_counts_from_the_last_account() -> None:
    cache, run = RunCache(), decode({**run_manifest(), "metadata": METADATA})

    def since(until: str | None, starting: float) -> float | None:
        cost = None if until is None else CostStatus(until=until)
        status = run.status.model_copy(update={"cost": cost, "wall_seconds": TimeStatus(starting=starting)})
        found = cache.counted_since(replace(run, status=status))
        return None if found is None else found.starting

    assert since(None, 1.0) is None
    assert [since("2026-01-31T12:00:00Z", 5.0), since("2026-01-31T12:00:00Z", 9.0)] == [5.0, 5.0]
    assert since("2026-01-31T12:00:10Z", 15.0) == 15.0


async def test_what_it_costs_is_no_reason_to_write_until_it_stands() -> None:
    world = await trains()
    key = world.cache.get(next(iter(world.cache.find_keys({}))))
    status = world.reconciler.controller.decode(key or {}).status
    assert status.cost is not None and bytes_of(status) < STATUS_LIMIT
    more = status.cost.model_copy(update={"node_seconds": status.cost.node_seconds + 60})
    later = status.cost.model_copy(update={"until": "2030-01-01T00:00:00Z"})
    for phase, cost, worth in (
        ("Running", more, StatusChange.NOTHING),
        ("Suspended", more, StatusChange.PROGRESS),
        ("Suspended", later, StatusChange.NOTHING),
    ):
        before = status.model_copy(update={"phase": phase})
        assert compare(before, before.model_copy(update={"cost": cost})) is worth
