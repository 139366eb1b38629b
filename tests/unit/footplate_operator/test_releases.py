"""What another release of the operator wrote and this one cannot read: named, and not guessed at."""

from __future__ import annotations

import json

import pytest

from footplate_contracts.base import digest
from footplate_contracts.names import WRITTEN_BY_ANNOTATION, config_map_name
from footplate_contracts.v1alpha1.status import TrainingRunStatus
from footplate_operator.runtime.kinds import CONFIG_MAP, POD, REVISION, Json
from footplate_operator.runtime.objects import UnreadableStatus
from footplate_operator.trainingrun.manifests.children import controller_revision
from footplate_operator.trainingrun.revision import (
    Revision,
    RevisionData,
    UnreadableRevision,
    admit,
    find_revision,
    view_revision,
)
from footplate_operator.trainingrun.run import decode
from tests.support.contracts import UNHEARD_OF, extended
from tests.support.fake_cluster import travelled
from tests.support.operator_fakes import DEFAULTS, RELEASE, profile_manifest, run_manifest
from tests.support.operator_runs import frozen, run
from tests.support.operator_world import World, running

NEWER = "9.0.0"


def of_another_release(revision: Json, written_by: str | None = NEWER) -> Json:
    """It trains in a stage that nobody here has heard of."""
    body = travelled(revision)
    body["data"]["config"]["stage"] = "dream"
    body["metadata"]["annotations"] = {WRITTEN_BY_ANNOTATION: written_by} if written_by else {}
    return body


async def downgraded() -> World:
    """A run that trains while the operator is replaced by a release that cannot read its revision."""
    world = await running(training={**run_manifest()["spec"]["training"], "steps": 10_000})
    world.cluster.put(of_another_release(world.cluster.objects[REVISION, "tiny-1"]))
    world.start_operator()
    await world.live(3)
    return world


@pytest.mark.parametrize(
    ("written_by", "expected"), [pytest.param(NEWER, NEWER, id="named"), pytest.param(None, "", id="unnamed")]
)
def test_an_unreadable_revision_keeps_number_and_writer(written_by: str | None, expected: str) -> None:
    body = of_another_release(controller_revision(run(), frozen(run())), written_by)
    seen = view_revision(body)
    assert isinstance(seen, UnreadableRevision)
    assert (seen.number, seen.written_by) == (1, expected)
    assert seen.error.startswith("config.stage: ") and "dream" in seen.error


def test_a_revision_says_who_wrote_it() -> None:
    seen = view_revision(travelled(controller_revision(run(), frozen(run()))))
    assert isinstance(seen, Revision) and seen.written_by == RELEASE


def test_the_next_revision_takes_no_number_that_is_taken() -> None:
    first = frozen(run())
    taken = UnreadableRevision(2, NEWER, "why")
    assert admit(run(), first.frozen.profile, DEFAULTS, [first, taken], RELEASE).number == 3


def test_the_revision_that_the_status_names_is_in_force_though_it_cannot_be_read() -> None:
    body = run_manifest() | {"status": {"revision": "tiny-2"}}
    body["metadata"] |= {"uid": "uid-1", "creationTimestamp": "2026-01-31T11:00:00Z"}
    taken = UnreadableRevision(2, NEWER, "why")
    assert find_revision(decode(body), [frozen(run()), taken]) == taken


@pytest.mark.parametrize(
    ("said", "error"),
    [
        pytest.param({"revision": 7}, "revision: must be 1, not 7", id="another-number"),
        pytest.param({}, "revision: must be 1, not 'nothing'", id="no-number"),
    ],
)
def test_a_revision_whose_number_is_not_its_names_cannot_be_read(said: Json, error: str) -> None:
    body = travelled(controller_revision(run(), frozen(run())))
    del body["revision"]
    seen = view_revision(body | said)
    assert isinstance(seen, UnreadableRevision) and (seen.number, seen.error) == (1, error)


@pytest.mark.parametrize("named", [pytest.param("tiny-1", id="named"), pytest.param("", id="not-even-named")])
async def test_a_revision_that_is_gone_is_no_reason_to_take_the_live_profile(named: str) -> None:
    world = await running(training={**run_manifest()["spec"]["training"], "steps": 10_000})
    kept = travelled(world.cluster.objects[REVISION, "tiny-1"])
    world.cluster.bury(REVISION, "tiny-1")
    body = travelled(world.run)
    body["status"]["revision"] = named
    world.cluster.put(body)
    world.cluster.put(profile_manifest(processesPerNode=1))
    world.start_operator()
    await world.live(3)
    pods, said = world.cluster.names(POD), world.condition("Reconciled")
    lost = "ControllerRevision tiny-1 is missing" if named else "its status names no revision"
    assert (said["status"], said["reason"]) == ("False", "RevisionUnreadable")
    assert said["message"].startswith(f"{lost}: the templates of its pods are unknown, so nothing is created")
    world.end_pod("tiny-w1-0", 137)
    await world.live(10)
    assert world.cluster.names(POD) == pods and not world.cluster.names(REVISION)
    body = travelled(world.run)
    body["status"]["revision"] = "tiny-1"
    world.cluster.put(body)
    world.cluster.put(kept)
    await world.live(30, until=lambda: "tiny-w1-1" in world.cluster.names(POD) and world.phase == "Running")
    assert world.cluster.names(REVISION) == ["tiny-1"]


async def test_a_running_run_is_left_alone_and_says_which_release_can_go_on() -> None:
    world = await downgraded()
    step, pods = world.status["progress"]["step"], world.cluster.names(POD)
    said = world.condition("Reconciled")
    assert (said["status"], said["reason"]) == ("False", "RevisionUnreadable")
    assert said["message"].startswith(
        f"this release cannot read ControllerRevision tiny-1: operator {NEWER} wrote it (config.stage: "
    )
    assert said["message"].endswith(
        "; nothing is created or deleted until that operator, or a newer one, is installed again"
    )
    await world.live(5)
    assert world.status["progress"]["step"] > step, "what the coordinator says is still told"
    world.end_pod("tiny-w1-0", 137)
    await world.live(10)
    assert world.phase == "Running" and world.cluster.names(POD) == pods


async def test_a_release_that_can_read_it_goes_on() -> None:
    world = await downgraded()
    world.end_pod("tiny-w1-0", 137)
    await world.live(5)
    readable = travelled(world.cluster.objects[REVISION, "tiny-1"])
    readable["data"]["config"]["stage"] = "pretrain"
    world.cluster.put(readable)
    world.start_operator()
    await world.live(30, until=lambda: "tiny-w1-1" in world.cluster.names(POD))
    await world.live(30, until=lambda: world.phase == "Running")
    assert world.condition("Reconciled")["status"] == "True"


async def test_a_suspended_run_is_resumed_with_what_this_release_writes() -> None:
    world = await running()
    world.change(suspend=True)
    await world.live(30, until=lambda: world.phase == "Suspended")
    world.cluster.put(of_another_release(world.cluster.objects[REVISION, "tiny-1"]))
    world.start_operator()
    world.change(suspend=False)
    await world.live(30, until=lambda: world.phase == "Running")
    assert world.status["revision"] == "tiny-2"


async def test_a_run_goes_on_though_a_newer_release_said_more_of_it() -> None:
    world = await running()
    world.end_pod("tiny-w1-0", 137)
    await world.live(30, until=lambda: "tiny-w1-1" in world.cluster.names(POD) and world.phase == "Running")
    body = travelled(world.run)
    body["status"] = extended(TrainingRunStatus, body["status"], enums=True)
    revision = travelled(world.cluster.objects[REVISION, "tiny-1"])
    revision["data"] = extended(RevisionData, revision["data"])
    world.cluster.put(body)
    world.cluster.put(revision)
    world.start_operator()
    await world.live(5)
    assert (world.phase, world.condition("Reconciled")["status"]) == ("Running", "True")
    assert world.status["attempts"][0]["cause"] == UNHEARD_OF, "history is not written anew"
    world.end_pod("tiny-w0-0", 137)
    await world.live(30, until=lambda: "tiny-w0-2" in world.cluster.names(POD) and world.phase == "Running")
    [config] = world.cluster.all(CONFIG_MAP)
    assert json.loads(config["data"]["run.json"])["training"]["sunSpots"] == {"count": 7}


def test_ranks_get_what_a_newer_release_froze_for_them() -> None:
    body = travelled(controller_revision(run(), frozen(run())))
    body["data"] = extended(RevisionData, body["data"])
    seen = view_revision(body)
    assert isinstance(seen, Revision) and seen.frozen == frozen(run()).frozen
    assert seen.config == body["data"]["config"]
    assert seen.config_map("tiny") != frozen(run()).config_map("tiny")


def test_ranks_get_nothing_that_the_release_which_froze_it_did_not_know() -> None:
    body = travelled(controller_revision(run(), frozen(run())))
    del (
        body["data"]["config"]["training"]["deterministic"],
        body["data"]["config"]["data"]["packing"]["enabled"],
    )
    seen = view_revision(body)
    assert isinstance(seen, Revision) and seen.config == body["data"]["config"]
    assert seen.config_map("tiny") == config_map_name("tiny", digest(body["data"]["config"]))
    assert controller_revision(run(), seen)["data"] == body["data"]


def test_a_whole_number_that_the_api_server_shortened_is_the_number_that_was_frozen() -> None:
    body = travelled(controller_revision(run(), frozen(run())))
    name = frozen(run()).config_map("tiny")
    assert body["data"]["config"]["training"]["gradientClipNorm"] == 1.0
    body["data"]["config"]["training"]["gradientClipNorm"] = 1
    seen = view_revision(body)
    assert isinstance(seen, Revision) and seen.config_map("tiny") == name


def test_a_run_that_is_admitted_anew_gets_what_this_release_knows() -> None:
    first = frozen(run())
    body = travelled(controller_revision(run(), first))
    assert admit(run(), first.frozen.profile, DEFAULTS, [view_revision(body)], RELEASE).number == 1
    body["data"] = extended(RevisionData, body["data"])
    assert admit(run(), first.frozen.profile, DEFAULTS, [view_revision(body)], RELEASE).number == 2


def test_a_status_that_cannot_be_read_names_its_writer() -> None:
    body = run_manifest() | {"status": {"restarts": "many", "writtenBy": NEWER}}
    body["metadata"] |= {"uid": "uid-1", "creationTimestamp": "2026-01-31T11:00:00Z"}
    with pytest.raises(UnreadableStatus, match=f"the status: operator {NEWER} wrote it .*restarts"):
        decode(body)


async def test_a_status_that_cannot_be_read_ends_in_a_condition() -> None:
    world = await running()
    body, pods = travelled(world.run), world.cluster.names(POD)
    assert body["status"]["writtenBy"] == RELEASE
    body["status"] |= {"restarts": "many", "writtenBy": NEWER}
    world.cluster.put(body)
    await world.live(3)
    said = world.condition("Reconciled")
    assert (said["status"], said["reason"]) == ("False", "StatusUnreadable")
    assert f"operator {NEWER} wrote it (restarts: " in said["message"]
    assert (world.status["restarts"], world.status["writtenBy"]) == ("many", NEWER), "all else is as it was"
    assert world.cluster.names(POD) == pods
