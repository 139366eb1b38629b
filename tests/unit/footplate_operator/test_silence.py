"""A coordinator that falls silent, and speaks again: when somebody looks at its run."""

from __future__ import annotations

import asyncio

from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_contracts.directives import Directives
from footplate_contracts.names import RunUid
from footplate_operator.runtime.objects import Key
from footplate_operator.trainingrun.coordinator_client import (
    BaseCoordinatorClient,
    CoordinatorEndpoint,
    CoordinatorPoller,
)
from footplate_operator.trainingrun.gang.coordinator import SILENT_SECONDS
from footplate_operator.trainingrun.status import disturbance
from tests.support.simulation.virtual_loop import in_virtual_time

UID = RunUid("uid-1")
KEY = Key("default", "tiny")
ENDPOINT = CoordinatorEndpoint("pod", 1, "10.0.0.1", "host", "token", "certificate")
WITHOUT_NEWS = CoordinatorState(version=7, epoch=1, state=RunState.TRAINING)


class Mute(BaseCoordinatorClient):
    """Answers every poll after a second and says nothing new, but not while it is silent."""

    def __init__(self, endpoint: CoordinatorEndpoint) -> None:
        self.endpoint = endpoint
        self.speaks = asyncio.Event()
        self.speaks.set()

    async def state(self, after: int, wait: float) -> CoordinatorState:
        await asyncio.sleep(1.0)
        await self.speaks.wait()
        return WITHOUT_NEWS

    async def send_directives(self, directives: Directives) -> CoordinatorState:
        raise AssertionError(directives)


@in_virtual_time
async def test_a_run_is_looked_at_while_its_coordinator_is_silent_and_when_it_speaks_again() -> None:
    client, looks = Mute(ENDPOINT), list[float]()
    clock = asyncio.get_running_loop().time
    watchers = CoordinatorPoller(lambda endpoint: client, lambda key: looks.append(clock()))
    watchers.follow(KEY, UID, ENDPOINT)
    await asyncio.sleep(20)
    looks.clear()
    client.speaks.clear()
    heard = clock() - watchers.silence(UID)
    await asyncio.sleep(disturbance.SILENT_SECONDS + 1.5)
    assert [round(look - heard) for look in looks] == [5, 6]
    looks.clear()
    client.speaks.set()
    await asyncio.sleep(0.01)
    assert len(looks) == 1, "the status says that it is silent"
    await asyncio.sleep(20)
    assert len(looks) == 1
    client.speaks.clear()
    heard = clock() - watchers.silence(UID)
    looks.clear()
    await asyncio.sleep(60)
    assert any(SILENT_SECONDS <= look - heard <= SILENT_SECONDS + 1 for look in looks)
    assert max(looks) - heard < 15, "then the polls that fail tell"
    await watchers.close()
