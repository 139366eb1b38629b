"""What somebody changes by hand of what the operator made is set back, and told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from footplate_operator.runtime.kinds import (
    CONFIG_MAP,
    DISRUPTION_BUDGET,
    EVENT,
    POD,
    REVISION,
    SERVICE,
    Json,
    Kind,
)
from tests.support.fake_cluster import travelled
from tests.support.operator_world import World, running

MANAGED = "app.kubernetes.io/managed-by"
RUN_UID = "footplate.dev/run-uid"
INDEX = "footplate.dev/index"


def _edit(world: World, kind: Kind, name: str, change: Callable[[Json], Any]) -> None:
    body = travelled(world.cluster.objects[kind, name])
    change(body)
    world.cluster.put(body)


def _told(world: World) -> list[str]:
    return [event["note"] for event in world.cluster.all(EVENT) if event["reason"] == "ChildEdited"]


def _said(world: World, kind: Kind) -> list[Json]:
    """All of a kind, but for what the API server adds."""
    given = ("uid", "resourceVersion", "creationTimestamp")
    return [
        {**body, "metadata": {name: value for name, value in body["metadata"].items() if name not in given}}
        for body in world.cluster.all(kind)
    ]


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        pytest.param(SERVICE, lambda body: body["spec"].update(selector={"app": "mine"}), id="service"),
        pytest.param(
            DISRUPTION_BUDGET, lambda body: body["spec"].update(maxUnavailable=0), id="disruption-budget"
        ),
        pytest.param(REVISION, lambda body: body.update(revision=7), id="revision"),
        pytest.param(
            REVISION, lambda body: body["data"]["defaults"].update(trainerImage="mine:1"), id="frozen-image"
        ),
        pytest.param(CONFIG_MAP, lambda body: body["data"].update({"run.json": "{}"}), id="config-map"),
        pytest.param(
            CONFIG_MAP,
            lambda body: body["metadata"]["labels"].update({MANAGED: "me"}),
            id="label-of-a-config",
        ),
    ],
)
async def test_a_child_is_made_anew_as_it_was(kind: Kind, change: Callable[[Json], Any]) -> None:
    world = await running()
    before, pods = _said(world, kind), world.cluster.names(POD)
    [name] = world.cluster.names(kind)
    _edit(world, kind, name, change)
    await world.live(2)
    assert _said(world, kind) == before
    [told] = _told(world)
    assert f"{kind.name} {name} was changed by hand" in told
    assert (world.cluster.names(POD), world.status["restarts"]) == (pods, 0)
    assert world.condition("Reconciled")["status"] == "True"


async def test_what_others_add_to_a_child_stays() -> None:
    world = await running()
    _edit(world, SERVICE, "tiny-coordinator", lambda body: body["metadata"].update(annotations={"a": "b"}))
    _edit(world, SERVICE, "tiny-coordinator", lambda body: body["metadata"]["labels"].update(team="a"))
    await world.live(2)
    assert world.cluster.objects[SERVICE, "tiny-coordinator"]["metadata"]["labels"]["team"] == "a"
    assert _told(world) == []


@pytest.mark.parametrize(
    ("name", "label", "value"),
    [
        pytest.param("tiny-w1-0", INDEX, "0", id="another-slot"),
        pytest.param("tiny-w1-0", INDEX, None, id="no-slot"),
        pytest.param("tiny-w1-0", RUN_UID, "another", id="another-run"),
        pytest.param("tiny-w1-0", "footplate.dev/role", "spare", id="a-spare"),
        pytest.param("tiny-c1", "footplate.dev/epoch", "7", id="another-epoch"),
        pytest.param("tiny-c1", "footplate.dev/role", None, id="no-coordinator"),
    ],
)
async def test_the_label_of_a_pod_is_set_back_and_nobody_is_restarted(
    name: str, label: str, value: str | None
) -> None:
    world = await running()
    before = {pod["metadata"]["name"]: pod["metadata"]["labels"] for pod in world.cluster.all(POD)}

    def change(body: Json) -> None:
        body["metadata"]["labels"].pop(label)
        body["metadata"]["labels"].update({label: value} if value is not None else {})

    _edit(world, POD, name, change)
    await world.reconcile()
    assert {pod["metadata"]["name"]: pod["metadata"]["labels"] for pod in world.cluster.all(POD)} == before
    [told] = _told(world)
    assert told.startswith(f"Pod {name} was changed by hand; reverted: label {label} = {before[name][label]}")
    await world.live(20)
    assert (world.status["restarts"], world.status.get("failures", {})) == (0, {})


async def test_a_pod_that_left_the_watch_and_is_there_is_no_loss() -> None:
    """A watch shows what is labelled as ours, and tells of anything else as if it were deleted."""
    world = await running()
    _edit(world, POD, "tiny-w1-0", lambda body: body["metadata"]["labels"].pop(MANAGED))
    world.watches.pending[-1] = ("DELETED", world.watches.pending[-1][1])
    await world.live(5)
    assert world.cluster.objects[POD, "tiny-w1-0"]["metadata"]["labels"][MANAGED] == "footplate"
    assert world.workers() == ["tiny-w0-0", "tiny-w1-0"] and world.status["restarts"] == 0


async def test_a_pod_that_is_labelled_otherwise_is_found_by_a_new_operator() -> None:
    world = await running()
    _edit(world, POD, "tiny-w1-0", lambda body: body["metadata"]["labels"].update({RUN_UID: "another"}))
    world.start_operator()
    await world.live(5)
    assert world.workers() == ["tiny-w0-0", "tiny-w1-0"] and world.status["restarts"] == 0


@pytest.mark.parametrize("kind", [CONFIG_MAP, SERVICE, DISRUPTION_BUDGET, REVISION])
async def test_a_deleted_child_is_back_within_seconds(kind: Kind) -> None:
    world = await running()
    world.trains = False
    before = _said(world, kind)
    for name in world.cluster.names(kind):
        world.cluster.bury(kind, name)
    await world.live(2)
    assert _said(world, kind) == before


async def test_who_insists_is_told_in_a_condition_and_not_fought() -> None:
    world = await running()
    world.trains = False

    def insists(event: str, body: Json) -> None:
        if body["kind"] == "PodDisruptionBudget" and body["spec"]["maxUnavailable"] == 1:
            world.cluster.put({**body, "spec": {**body["spec"], "maxUnavailable": 0}})

    world.cluster.watches.append(insists)
    _edit(world, DISRUPTION_BUDGET, "tiny", lambda body: body["metadata"].update(annotations={"a": "b"}))
    await world.live(30)
    said = world.condition("Reconciled")
    assert (said["status"], said["reason"]) == ("False", "ChildConflict")
    assert "PodDisruptionBudget tiny keeps changing, and was recreated" in said["message"]
    assert len(_told(world)) == 3
    world.cluster.bury(POD, "tiny-w1-0")
    await world.live(10, until=lambda: "tiny-w1-1" in world.workers("Running"))
