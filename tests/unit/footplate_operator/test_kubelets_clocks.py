"""What a kubelet says of the time is its own clock's, which may be wrong by an hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from footplate_operator.runtime.clock import format_time
from footplate_operator.runtime.kinds import POD
from footplate_operator.trainingrun.observation import view_pod
from footplate_operator.trainingrun.policies.backoff import not_before
from footplate_operator.trainingrun.run_cache import RunCache
from tests.support.fake_cluster import FakeCluster, travelled
from tests.support.operator_world import World, running

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
off = pytest.mark.parametrize("clock", [-HOUR, timedelta(0), HOUR], ids=["behind", "right", "ahead"])


@off
async def test_young_is_who_lived_shortly_by_the_same_clock(clock: timedelta) -> None:
    cache, cluster = RunCache(), FakeCluster()
    seen = []
    for number, lived in enumerate((5.0, 5.0, 5.0, 3000.0)):
        body = {
            "metadata": {"name": f"p{number}", "uid": f"p{number}", "creationTimestamp": format_time(NOW)},
            "status": {
                "phase": "Failed",
                "containerStatuses": [
                    {
                        "state": {
                            "terminated": {
                                "exitCode": 137,
                                "startedAt": format_time(NOW + clock),
                                "finishedAt": format_time(NOW + clock + timedelta(seconds=lived)),
                            }
                        }
                    }
                ],
            },
        }
        seen.append(await cache.complete(view_pod(body), cluster, NOW + timedelta(seconds=number)))
    first_seen = [NOW + timedelta(seconds=number) for number in range(len(seen))]
    assert not_before(seen[:2], NOW) == first_seen[1] + timedelta(seconds=2)
    assert not_before(seen, NOW) == first_seen[2] + timedelta(seconds=4), "the last one did not die young"


@off
async def test_a_run_whose_pods_alone_say_that_it_succeeded_ends_ten_seconds_later(clock: timedelta) -> None:
    world = await running()
    world.trains = False
    for name in world.workers("Running"):
        _ended_well(world, name, clock)
    world.coordinators.clear()
    world.heard.clear()
    await world.live(20, until=lambda: world.phase == "Succeeded")


def _ended_well(world: World, name: str, clock: timedelta) -> None:
    world.end_pod(name, 0)
    pod = travelled(world.cluster.objects[POD, name])
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    ended["finishedAt"] = format_time(world.clock() + clock)
    world.cluster.put(pod)
