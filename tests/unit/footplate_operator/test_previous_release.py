"""Runs that the previous release left in every phase: an operator of this one takes over."""

from __future__ import annotations

from typing import Final

import pytest

from footplate_contracts.names import Phase
from footplate_operator.runtime.kinds import EVENT, POD, REVISION, SECRET, Json
from footplate_operator.trainingrun.run import TRAINING_RUN
from footplate_operator.usage.writes import USAGE_RECORD
from tests.support.fake_cluster import copied
from tests.support.operator_world import World
from tests.support.released.found import STORIES, found

GO_ON: Final = tuple(name for name in STORIES if name.startswith(("training", "checkpointing", "starting")))
NOT_TAKEN_OVER: Final = ("RevisionUnreadable", "StatusUnreadable", "CredentialsUnknown")
NEVER_WRITTEN: Final = {Phase.ADMITTED, Phase.PREFLIGHT}


def children(world: World) -> dict[tuple[str, str], Json]:
    """All that a run owns, as it stands."""
    told = (TRAINING_RUN, USAGE_RECORD, EVENT)
    return {
        (kind.name, name): copied(body)
        for (kind, name), body in world.cluster.objects.items()
        if kind not in told
    }


def test_there_are_twenty_and_more_and_in_every_phase() -> None:
    assert len(STORIES) >= 20
    assert {found(name).phase for name in STORIES} == {phase.value for phase in set(Phase) - NEVER_WRITTEN}


@pytest.mark.parametrize("story", STORIES)
async def test_it_is_found_and_nothing_of_it_is_touched(story: str) -> None:
    world = found(story).world()
    before, status = children(world), copied(world.status)
    world._train = lambda: None
    await world.live(5)
    assert children(world) == before
    assert not [
        call
        for call in world.cluster.calls
        if not any(kind.name in call for kind in (TRAINING_RUN, USAGE_RECORD, EVENT))
    ]
    assert world.condition("Reconciled")["reason"] not in NOT_TAKEN_OVER
    assert world.phase == status["phase"]
    assert world.status.get("attempts") == status.get("attempts")


@pytest.mark.parametrize("story", GO_ON)
async def test_under_another_key_it_trains_on_until_its_credentials_are_handed_over(story: str) -> None:
    world = found(story).world(key_known=False)
    before = children(world)
    world._train = lambda: None
    await world.live(5)
    said = world.condition("Reconciled")
    assert children(world) == before and (said["status"], said["reason"]) == ("False", "CredentialsUnknown")
    assert said["message"].startswith(
        "this operator neither knows nor may read the content of Secret tiny-run"
    )
    world.keys.handed_over = found(story).credentials
    await world.live(10)
    assert world.condition("Reconciled")["reason"] not in NOT_TAKEN_OVER


async def test_a_suspended_run_is_resumed_with_credentials_of_this_release() -> None:
    """Nobody reads what its Secret holds: it is made anew, while the run has no pods."""
    world = found("suspended").world(key_known=False)
    before = world.cluster.objects[SECRET, "tiny-run"]["data"]
    world.kubelet_works = world.trains = True
    world.change(suspend=False)
    await world.live(60, until=lambda: world.phase == "Running")
    assert world.cluster.objects[SECRET, "tiny-run"]["data"] != before
    assert (
        world.cluster.objects[REVISION, "tiny-2"]["data"]["defaults"]["runKey"] == world.keys.current_key_id
    )


@pytest.mark.parametrize("story", GO_ON)
async def test_it_goes_on(story: str) -> None:
    world = found(story).world()
    before, step = world.cluster.names(POD), world.status.get("progress", {}).get("step", 0)
    world.kubelet_works = world.trains = True
    for coordinator in world.coordinators.values():
        coordinator.saving = False
    await world.live(20, until=lambda: world.phase == "Running")
    await world.live(5)
    assert world.phase == "Running" and world.status["progress"]["step"] > step
    assert set(before) <= set(world.cluster.names(POD)), "nobody was replaced"
