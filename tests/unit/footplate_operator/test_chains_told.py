"""Who concerns whom among runs, by what watches told, and what the API server is asked beside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from footplate_operator.errors import RequestForbidden
from footplate_operator.runtime.clock import parse_time
from footplate_operator.runtime.cluster import PAGE
from footplate_operator.runtime.decision import ReconcileProblem
from footplate_operator.runtime.kinds import Json, Kind
from footplate_operator.trainingrun.policies import checkpoint_pins
from footplate_operator.trainingrun.reference_index import ReferenceIndex
from footplate_operator.trainingrun.run import TRAINING_RUN, decode
from tests.support.fake_cluster import Clock, FakeCluster
from tests.support.operator_fakes import KEY, NAME, run_manifest
from tests.support.operator_world import running


class Passing(Clock):
    """A second passes with each look at it."""

    def __call__(self) -> datetime:
        self.advance(1)
        return self.moment


async def test_a_run_that_is_about_to_go_is_asked_about_anew_whatever_watches_told() -> None:
    cluster = FakeCluster(Clock(), kinds=(TRAINING_RUN,))
    chains = ReferenceIndex(cluster, cluster.clock)
    ended = {"phase": "Failed", "completionTime": "2026-01-31T12:00:00Z"}
    cluster.put(run_manifest() | {"status": ended})
    other = decode(cluster.objects[TRAINING_RUN, NAME])

    def waiting(name: str) -> Json:
        named = {"name": NAME, "checkpoint": "promoted"}
        own = {"uri": f"/shared/{name}", "everySteps": 10}
        return cluster.put(run_manifest(name, checkpoint=own, initFrom={"run": named}))

    async def is_awaited() -> bool:
        cluster.clock.advance(60)  # long after all was listed last
        return await chains.is_awaited(other, await chains.find_referencing_runs(other), cluster.clock())

    assert not await is_awaited()
    waiting("untold")
    assert await is_awaited(), "no watch has told of it yet"
    cluster.bury(TRAINING_RUN, "untold")
    chains.observe_run(waiting("gone"), gone=False)
    assert await is_awaited()
    cluster.bury(TRAINING_RUN, "gone")
    assert not await is_awaited(), "no watch will tell of its end"


class Listing(FakeCluster):
    """Counts lists of all runs of a namespace, and takes its time for each."""

    lists = 0

    async def pages(
        self, kind: Kind, namespace: str, labels: str = "", fields: str = "", size: int = PAGE
    ) -> AsyncIterator[list[Json]]:
        self.lists += 1
        await asyncio.sleep(0)
        async for page in super().pages(kind, namespace, labels, fields, size):
            yield page


async def test_one_list_is_made_for_all_that_were_due_before_it_began() -> None:
    cluster = Listing(Clock(), kinds=(TRAINING_RUN,))
    chains = ReferenceIndex(cluster, cluster.clock)
    ended = {"phase": "Succeeded", "completionTime": "2026-01-31T12:00:00Z"}
    others = [decode(cluster.put(run_manifest(f"base-{number}") | {"status": ended})) for number in range(20)]
    own = {"uri": "/shared/next", "everySteps": 10}
    given = {"run": {"name": "base-7", "checkpoint": "promoted"}}
    cluster.put(run_manifest("next", checkpoint=own, initFrom=given))
    due = cluster.clock()
    cluster.clock.advance(5)

    async def awaited(since: datetime) -> list[str]:
        found = await asyncio.gather(*(chains.is_awaited(other, [], since) for other in others))
        return [other.name for other, waits in zip(others, found, strict=True) if waits]

    assert (await awaited(due), cluster.lists) == (["base-7"], 1)
    cluster.bury(TRAINING_RUN, "next")
    assert (await awaited(due), cluster.lists) == ([], 1), "who was listed is asked for"
    cluster.clock.advance(1)
    assert (await awaited(cluster.clock()), cluster.lists) == ([], 2), "they came to be due since"
    cluster.clock.advance(60)
    assert (await awaited(due), cluster.lists) == ([], 3), "that was long ago"


async def test_nobody_is_listed_for_a_run_whose_pods_have_not_ended() -> None:
    world = await running(ttlSecondsAfterFinished=0)
    world.coordinator().backlog = 1
    world.cluster.refuse["find", TRAINING_RUN] = RequestForbidden("is forbidden", 403, "Forbidden")
    await world.live(200, until=lambda: world.phase == "Succeeded")
    await world.live(20)
    assert world.condition("Reconciled")["status"] == "True"
    world.coordinator().backlog, world.coordinator().version = 0, 1000
    await world.live(20, until=lambda: world.condition("Reconciled")["status"] == "False")


@pytest.mark.parametrize(
    ("now", "listed"),
    [
        pytest.param({"spec": "sorcery"}, True, id="a-spec-of-a-later-release"),
        pytest.param({"status": {"world": "sorcery"}}, True, id="a-status-of-a-later-release"),
        pytest.param({"spec": "sorcery", "status": {"phase": "Failed"}}, False, id="it-has-ended"),
        pytest.param({"spec": "sorcery", "uid": "anew"}, False, id="another-of-its-name"),
        pytest.param(None, False, id="it-is-gone"),
    ],
)
@pytest.mark.parametrize("told", [True, False], ids=["told", "asked-for"])
async def test_who_cannot_be_read_stays_listed_with_its_steps(
    told: bool, now: dict[str, Any] | None, listed: bool
) -> None:
    cluster = FakeCluster(Clock(), kinds=(TRAINING_RUN,))
    chains = ReferenceIndex(cluster, cluster.clock)
    body = cluster.put(run_manifest("next", initFrom={"run": {"name": NAME, "checkpoint": "20"}}))
    follower = {"name": "next", "uid": body["metadata"]["uid"], "steps": [20]}
    status = {"phase": "Running", "followers": [follower]}
    other = decode(cluster.put(run_manifest() | {"status": status}))
    if now is None:
        cluster.bury(TRAINING_RUN, "next")
    else:
        body["spec"]["stage"] = now.get("spec", "pretrain")
        body["metadata"]["uid"] = now.get("uid", body["metadata"]["uid"])
        body["status"] = {"phase": "Running"} | now.get("status", {})
        cluster.put(body)
        if told:
            chains.observe_run(body, gone=False)
    found = checkpoint_pins.build_followers(other, await chains.find_referencing_runs(other))
    assert [known.to_json() for known in found] == ([follower] if listed else [])


async def test_a_cycle_of_many_runs_is_one() -> None:
    cluster = FakeCluster(Clock(), kinds=(TRAINING_RUN,))
    chains = ReferenceIndex(cluster, cluster.clock)
    names = [f"r{number}" for number in range(200)]
    for name, of in pairwise([*names, names[0]]):
        chains.observe_run(cluster.put(run_manifest(name, initFrom={"run": {"name": of}})), gone=False)
    found = await chains.resolve(decode(cluster.objects[TRAINING_RUN, "r7"]))
    assert isinstance(found, ReconcileProblem) and found.reason == "RunCycle"


async def test_many_ways_between_runs_are_no_work() -> None:
    """Each layer names both runs of the next one: there are 2^40 ways through them."""
    chains = ReferenceIndex(FakeCluster(Clock()), Clock())
    for layer in range(40):
        for side in "ab":
            named = {"initFrom": f"a{layer + 1}", "reward": f"b{layer + 1}"}
            spec = {field: {"run": {"name": of}} for field, of in named.items()}
            metadata = {"name": f"{side}{layer}", "namespace": "default", "uid": f"{side}{layer}"}
            chains.observe_run({"metadata": metadata, "spec": spec}, gone=False)
    body = run_manifest("a0", initFrom={"run": {"name": "a1"}})
    body["metadata"] |= {"uid": "a0", "namespace": "default", "creationTimestamp": "2026-01-31T12:00:00Z"}
    run = decode(body)
    found = await chains.resolve(run)
    assert isinstance(found, ReconcileProblem) and found.reason == "RunNotFound"


async def test_whether_a_run_is_due_and_awaited_is_decided_of_one_moment() -> None:
    world = await running(ttlSecondsAfterFinished=60)
    await world.live(200, until=lambda: world.phase == "Succeeded")
    await world.live(20)
    world.watches.late = {"next"}
    own = {"uri": "/shared/next", "everySteps": 10}
    world.cluster.put(run_manifest("next", checkpoint=own, initFrom={"run": {"name": NAME}}))
    due = parse_time(world.status["completionTime"]) + timedelta(seconds=60)
    for left in range(6):
        await replace(world.reconciler, now=Passing(due - timedelta(seconds=left)))(KEY)
        assert (TRAINING_RUN, NAME) in world.cluster.objects, "no watch has told yet that next waits"
