"""Who asks the API for final statuses: a few at a time, ever less often, and nobody waits for it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from footplate_contracts.names import Phase, RunUid
from footplate_contracts.recorded_run import RecordedRun
from footplate_operator.errors import ApiUnreachable
from footplate_operator.runtime.objects import Key
from footplate_operator.trainingrun.history_client import (
    ANSWER_SECONDS,
    AT_ONCE,
    LONGEST_RETRY_SECONDS,
    FinalStatus,
    HistoryClient,
    RecordingPoller,
)
from footplate_operator.trainingrun.observation import RecordingStatus
from tests.support.operator_world import running
from tests.support.simulation.virtual_loop import in_virtual_time

MANY = 1000


def final(number: int = 0, version: int = 7) -> FinalStatus:
    return FinalStatus(Key("default", f"run-{number}"), RunUid(f"uid-{number}"), Phase.SUCCEEDED, version)


@dataclass
class Api(HistoryClient):
    """One that is away, or has all final statuses up to a version."""

    away: bool = False
    version: int = 7
    asked: list[tuple[float, FinalStatus]] = field(default_factory=list)
    open: int = 0
    most: int = 0

    async def missing(self, final: FinalStatus) -> str:
        self.asked.append((asyncio.get_running_loop().time(), final))
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await asyncio.sleep(ANSWER_SECONDS if self.away else 0.01)
        finally:
            self.open -= 1
        if self.away:
            raise ApiUnreachable("TimeoutError")
        known = RecordedRun(uid=final.uid, phase=Phase.SUCCEEDED, resource_version=self.version)
        return final.missing(known)


@pytest.mark.parametrize(
    ("known", "missing"),
    [
        pytest.param(RecordedRun(uid="uid-0", phase="Succeeded", resource_version=7), "", id="it"),
        pytest.param(RecordedRun(uid="uid-0", phase="Succeeded", resource_version=9), "", id="a-later-one"),
        pytest.param(
            RecordedRun(uid="uid-0", phase="Succeeded", resource_version=6),
            "it has resourceVersion 6, but the last is 7",
            id="an-earlier-one",
        ),
        pytest.param(
            RecordedRun(uid="uid-0", phase="Running", resource_version=9),
            "it still has phase Running",
            id="another-phase",
        ),
        pytest.param(
            RecordedRun(uid="uid-1", phase="Succeeded", resource_version=9),
            "it only has uid uid-1",
            id="a-namesake",
        ),
    ],
)
def test_what_is_missing(known: RecordedRun, missing: str) -> None:
    assert final().missing(known) == missing


@in_virtual_time
async def test_a_thousand_runs_that_end_at_once_are_asked_for_a_few_at_a_time() -> None:
    api, told = Api(), []
    askers = RecordingPoller(api, told.append)
    for number in range(MANY):
        askers.start_polling(final(number))
    await asyncio.sleep(5)
    assert api.most == AT_ONCE and len(api.asked) == MANY
    assert len(told) == MANY and all(askers.get_status(final(number)).known for number in range(MANY))
    await askers.close()


@in_virtual_time
async def test_an_api_that_is_away_is_asked_less_and_less_often() -> None:
    api = Api(away=True)
    askers = RecordingPoller(api, lambda key: None)
    askers.start_polling(final())
    assert askers.get_status(final()) == RecordingStatus()
    await asyncio.sleep(600)
    recorded = askers.get_status(final())
    assert (recorded.known, recorded.said) == (False, "it does not answer (TimeoutError)")
    assert recorded.asked_for == pytest.approx(600)
    waits = [later[0] - earlier[0] for earlier, later in zip(api.asked, api.asked[1:], strict=False)]
    assert waits == sorted(waits) and waits[0] >= 2 and waits[-1] == LONGEST_RETRY_SECONDS + ANSWER_SECONDS
    await askers.close()


@in_virtual_time
async def test_a_thousand_runs_are_recorded_soon_after_the_api_is_back() -> None:
    api, told = Api(away=True), []
    askers = RecordingPoller(api, told.append)
    for number in range(MANY):
        askers.start_polling(final(number))
    await asyncio.sleep(1800)
    assert api.most == AT_ONCE and not told
    api.away = False
    await asyncio.sleep(ANSWER_SECONDS + LONGEST_RETRY_SECONDS + 5)
    assert len(told) == MANY
    await askers.close()


@in_virtual_time
async def test_the_last_status_is_asked_for_where_another_was_written_meanwhile() -> None:
    api, told = Api(version=7), []
    askers = RecordingPoller(api, told.append)
    askers.start_polling(final(version=7))
    await asyncio.sleep(1)
    assert askers.get_status(final(version=7)).known
    assert not askers.get_status(final(version=8)).known
    askers.start_polling(final(version=8))
    await asyncio.sleep(60)
    assert not askers.get_status(final(version=8)).known
    api.version = 8
    await asyncio.sleep(60)
    assert askers.get_status(final(version=8)).known and len(told) == 2
    await askers.close()


@in_virtual_time
async def test_nobody_is_asked_for_a_run_that_is_gone() -> None:
    api = Api(away=True)
    askers = RecordingPoller(api, lambda key: None)
    askers.start_polling(final())
    await asyncio.sleep(60)
    askers.forget(final().uid)
    asked = len(api.asked)
    await asyncio.sleep(600)
    assert len(api.asked) == asked and askers.get_status(final()) == RecordingStatus()


async def test_a_run_is_asked_for_only_when_its_time_has_passed() -> None:
    world = await running(ttlSecondsAfterFinished=30)
    world.histories.missing = "it does not have the run"
    await world.live(60, until=lambda: world.phase == "Succeeded")
    await world.live(20)
    assert world.histories.asked == []
    await world.live(60, until=lambda: world.histories.asked != [])
    [asked] = world.histories.asked
    assert (asked.phase, asked.version) == ("Succeeded", int(world.run["metadata"]["resourceVersion"]))


async def test_a_run_without_a_time_to_live_is_never_asked_for() -> None:
    world = await running()
    world.histories.missing = "it does not have the run"
    await world.live(60, until=lambda: world.phase == "Succeeded")
    await world.live(60)
    assert world.histories.asked == []
