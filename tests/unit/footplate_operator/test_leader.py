"""One operator at a time, by its Lease."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from footplate_operator.errors import LeadershipLost
from footplate_operator.runtime.kinds import LEASE, Json, Kind
from footplate_operator.runtime.leader import Leadership, LeaseAction, LeaseView, next_action
from tests.support.fake_cluster import Clock, FakeCluster

NOW = Clock()()


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


def _replica(cluster: FakeCluster, identity: str) -> Leadership:
    return Leadership(cluster, "default", "footplate-operator", identity, 0.03, cluster.clock)


async def test_one_leads_and_the_other_follows_when_it_lets_go() -> None:
    cluster = FakeCluster()
    first, second = _replica(cluster, "first"), _replica(cluster, "second")
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(0.02)
    assert not waiting.done()
    await first.release()
    await asyncio.wait_for(waiting, 30)
    spec = cluster.objects[LEASE, "footplate-operator"]["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("second", 2)


async def test_a_leader_that_cannot_renew_steps_down() -> None:
    cluster = FakeCluster()
    first = _replica(cluster, "first")
    await first.acquire()
    cluster.down = True
    keeping = asyncio.create_task(first.keep())
    await asyncio.sleep(0.02)
    cluster.clock.advance(1)
    with pytest.raises(LeadershipLost):
        await asyncio.wait_for(keeping, 30)


async def test_a_leader_steps_down_for_another() -> None:
    cluster = FakeCluster()
    first, second = _replica(cluster, "first"), _replica(cluster, "second")
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(0)
    cluster.clock.advance(60)
    await asyncio.wait_for(waiting, 30)
    with pytest.raises(LeadershipLost):
        await asyncio.wait_for(first.keep(), 30)


async def test_a_clock_that_is_ahead_takes_no_lease_from_a_leader_that_renews_it() -> None:
    cluster, ahead = FakeCluster(), Clock()
    ahead.advance(60)
    await _replica(cluster, "first").acquire()
    waiting = asyncio.create_task(
        Leadership(cluster, "default", "footplate-operator", "second", 0.03, ahead).acquire()
    )
    await asyncio.sleep(0.02)
    assert not waiting.done()
    waiting.cancel()


async def test_a_leader_whose_api_server_hangs_steps_down_before_its_lease_ends() -> None:
    class Hanging(FakeCluster):
        async def get(self, kind: Kind, namespace: str, name: str) -> Json:
            await asyncio.Event().wait()
            raise AssertionError

    def now() -> datetime:
        return NOW + timedelta(seconds=asyncio.get_running_loop().time())

    leader = Leadership(Hanging(), "default", "footplate-operator", "first", 0.06, now)
    began = asyncio.get_running_loop().time()
    with pytest.raises(LeadershipLost):
        await asyncio.wait_for(leader.keep(), 30)
    assert asyncio.get_running_loop().time() - began >= 0.05
