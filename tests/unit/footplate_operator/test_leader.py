"""One operator at a time, by its Lease."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from footplate_contracts.coordinator_state import CoordinatorState
from footplate_contracts.directives import Directives
from footplate_contracts.names import RunUid
from footplate_operator.errors import LeadershipLost
from footplate_operator.runtime.clock import SteadyClock
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.fence import FencedCluster
from footplate_operator.runtime.kinds import LEASE, POD, Json, Kind
from footplate_operator.runtime.leader import (
    LET_GO,
    LOOK_SECONDS,
    Leadership,
    LeaseAction,
    LeaseView,
    next_action,
)
from footplate_operator.trainingrun.coordinator_client import (
    BaseCoordinatorClient,
    CoordinatorEndpoint,
    CoordinatorPoller,
)
from tests.support.fake_cluster import Clock, FakeCluster
from tests.support.operator_fakes import HANG, KEY
from tests.support.simulation.virtual_loop import VirtualLoop, run

NOW = Clock()()
SECONDS = 15.0


def lease(holder: str) -> LeaseView:
    return LeaseView(holder, NOW, 15, 0)


@pytest.mark.parametrize(
    ("view", "unchanged", "action"),
    [
        pytest.param(None, 0, LeaseAction.CREATE, id="none"),
        pytest.param(lease("me"), 3, LeaseAction.TAKE, id="ours"),
        pytest.param(lease(""), 3, LeaseAction.TAKE, id="given-back"),
        pytest.param(lease("other"), 14, LeaseAction.WAIT, id="held"),
        pytest.param(lease("other"), 16, LeaseAction.TAKE, id="expired"),
        pytest.param(LeaseView("other", None, 15, 0), 0, LeaseAction.TAKE, id="never-renewed"),
    ],
)
def test_next_action(view: LeaseView | None, unchanged: float, action: LeaseAction) -> None:
    assert next_action(view, "me", unchanged) is action


@dataclass
class _Clock:
    """The clock of a machine, which may be put back and on."""

    step: float = 0.0

    def __call__(self) -> datetime:
        return NOW + timedelta(seconds=_now() + self.step)


def _replica(cluster: FakeCluster, identity: str, clock: _Clock | None = None) -> Leadership:
    return Leadership(cluster, "default", "footplate-operator", identity, SECONDS, clock or _Clock())


def _now() -> float:
    return asyncio.get_running_loop().time()


def _stopped(seconds: float) -> None:
    """The whole process stands still for so long."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.passed += seconds


def test_one_leads_and_the_other_follows_at_once_when_it_lets_go() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        first, second = _replica(cluster, "first"), _replica(cluster, "second")
        await first.acquire()
        keeping, waiting = asyncio.create_task(first.renew_forever()), asyncio.create_task(second.acquire())
        await asyncio.sleep(100)
        assert not waiting.done() and first.alive() and not second.alive()
        await first.release()
        assert not first.alive()
        began = _now()
        await waiting
        assert second.alive() and _now() - began <= LOOK_SECONDS
        keeping.cancel()
        spec = cluster.objects[LEASE, "footplate-operator"]["spec"]
        assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("second", 2)

    run(story())


@pytest.mark.parametrize(
    "step", [pytest.param(-3600, id="put-back"), pytest.param(0, id="right"), pytest.param(3600, id="put-on")]
)
def test_a_leader_that_cannot_renew_steps_down_before_another_may_lead(step: float) -> None:
    """Also where the machine's clock is put back or on meanwhile."""

    async def story() -> None:
        cluster, clock = FakeCluster(), _Clock()
        first = _replica(cluster, "first", clock)
        await first.acquire()
        began = _now()
        cluster.down = True
        clock.step = step
        with pytest.raises(LeadershipLost):
            await first.renew_forever()
        assert not first.alive()
        assert SECONDS * LET_GO <= _now() - began < SECONDS

    run(story())


@pytest.mark.parametrize("step", [pytest.param(-3600, id="put-back"), pytest.param(3600, id="put-on")])
def test_a_leader_whose_clock_steps_goes_on(step: float) -> None:
    async def story() -> None:
        cluster, clock = FakeCluster(), _Clock()
        first, second = _replica(cluster, "first", clock), _replica(cluster, "second")
        await first.acquire()
        keeping, waiting = asyncio.create_task(first.renew_forever()), asyncio.create_task(second.acquire())
        await asyncio.sleep(20)
        clock.step = step
        await asyncio.sleep(60)
        assert first.alive() and not keeping.done() and not waiting.done()
        for task in (keeping, waiting):
            task.cancel()

    run(story())


def test_a_leader_steps_down_for_another() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        first, second = _replica(cluster, "first"), _replica(cluster, "second")
        await first.acquire()
        waiting = asyncio.create_task(second.acquire())
        await asyncio.sleep(1)
        _stopped(16)
        await waiting
        assert not first.alive()
        with pytest.raises(LeadershipLost):
            await first.renew_forever()
        assert second.alive()

    run(story())


def test_a_leader_whose_api_server_hangs_steps_down_before_its_lease_ends() -> None:
    class Hanging(FakeCluster):
        hangs = False

        async def get(self, kind: Kind, namespace: str, name: str) -> Json:
            while self.hangs:
                await asyncio.sleep(3600)
            return await super().get(kind, namespace, name)

    async def story() -> None:
        cluster = Hanging()
        leader = _replica(cluster, "first")
        await leader.acquire()
        began, cluster.hangs = _now(), True
        with pytest.raises(LeadershipLost):
            await leader.renew_forever()
        assert SECONDS * LET_GO <= _now() - began < SECONDS

    run(story())


def test_a_renewal_that_took_long_counts_from_its_beginning() -> None:
    class Slow(FakeCluster):
        async def replace(self, kind: Kind, body: Json) -> Json:
            await asyncio.sleep(14)
            return await super().replace(kind, body)

    async def story() -> None:
        cluster = Slow()
        leader = _replica(cluster, "first")
        await leader.acquire()
        await leader.acquire()
        assert not leader.alive()

    run(story())


Call = Callable[[Cluster], Awaitable[object]]
POD_BODY = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": "default"}}


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda cluster: cluster.create(POD, POD_BODY), id="create"),
        pytest.param(lambda cluster: cluster.apply(POD, POD_BODY, "status"), id="apply"),
        pytest.param(lambda cluster: cluster.replace(POD, POD_BODY), id="replace"),
        pytest.param(lambda cluster: cluster.merge(POD, "default", "x", {}), id="merge"),
        pytest.param(lambda cluster: cluster.delete(POD, "default", "x"), id="delete"),
        pytest.param(lambda cluster: cluster.delete_all(POD, "default", "a=b"), id="delete-all"),
    ],
)
def test_a_leader_that_was_stopped_begins_nothing_more(call: Call) -> None:
    async def story() -> None:
        cluster = FakeCluster()
        leader = _replica(cluster, "first")
        fenced = FencedCluster(cluster, leader.check)
        with pytest.raises(LeadershipLost):
            await call(fenced)
        await leader.acquire()
        await fenced.delete(POD, "default", "nothing")
        made = len(cluster.calls)
        _stopped(14)
        with pytest.raises(LeadershipLost):
            await call(fenced)
        assert len(cluster.calls) == made
        assert await fenced.find(POD, "default") == [], "it may look"

    run(story())


def test_a_leader_that_was_stopped_tells_no_coordinator() -> None:
    told: list[Directives] = []

    class Listening(BaseCoordinatorClient):
        def __init__(self, endpoint: CoordinatorEndpoint) -> None:
            self.endpoint = endpoint

        async def state(self, after: int, wait: float) -> CoordinatorState:
            await asyncio.sleep(3600)
            raise AssertionError

        async def send_directives(self, directives: Directives) -> CoordinatorState:
            told.append(directives)
            return CoordinatorState.empty()

    async def story() -> None:
        leader = _replica(FakeCluster(), "first")
        watchers = CoordinatorPoller(Listening, lambda key: None, leader.check)
        await leader.acquire()
        endpoint = CoordinatorEndpoint("u", 1, "10.0.0.1", "tiny-coordinator", "t", "")
        watchers.follow(KEY, RunUid("r"), endpoint)
        directives = Directives(nodes=2, hang=HANG)
        watchers.send_directives(RunUid("r"), directives)
        await asyncio.sleep(1)
        assert told == [directives]
        watchers.send_directives(RunUid("r"), directives)
        _stopped(14)
        await asyncio.sleep(1)
        assert told == [directives]
        await watchers.close()

    run(story())


def test_now_does_not_step() -> None:
    passed = 5.0
    now = SteadyClock(lambda: passed)
    began = now()
    assert abs((began - datetime.now(UTC)).total_seconds()) < 60
    passed = 12.5
    assert now() - began == timedelta(seconds=7.5)
