"""Credentials of runs: made of a key, never read where runs are, handed over of an earlier operator."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from footplate_operator.errors import ClusterError, RequestForbidden
from footplate_operator.keys import manifests
from footplate_operator.keys.credentials import KEY_BYTES, RunCredentials
from footplate_operator.keys.keyring import CredentialSource, Keyring
from footplate_operator.keys.manifests import KeySecretNames
from footplate_operator.runtime.kinds import CORE_EVENT, POD, SECRET, SERVICE, Json
from footplate_operator.trainingrun import handover
from footplate_operator.trainingrun.manifests.children import read_secret
from footplate_operator.trainingrun.metadata import certificate_names
from footplate_operator.trainingrun.run import TRAINING_RUN, Run
from tests.support.certificates import any_credentials
from tests.support.fake_cluster import FakeCluster, copied
from tests.support.operator_fakes import FakeKeys, run_manifest
from tests.support.operator_runs import run
from tests.support.operator_world import World, running
from tests.support.released.found import found

PLACE = KeySecretNames("footplate-system", "footplate-run-key")
LONG: dict[str, Any] = {**run_manifest()["spec"]["training"], "steps": 10_000}


# -- a run -----------------------------------------------------------------------------------


async def test_the_secret_follows_from_the_key_and_the_run() -> None:
    world = await running()
    made = read_secret(world.cluster.objects[SECRET, "tiny-run"])
    assert made == credentials(world.keys, run_of(world), world.keys.current_key_id)
    other = await running()
    other.keys.key = bytes(range(KEY_BYTES))
    assert made.token not in str(other.cluster.objects)


def run_of(world: World) -> Any:
    return world.reconciler.controller.decode(world.run)


def credentials(source: CredentialSource, of: Run, key: str | None) -> RunCredentials | None:
    return source.credentials(of.uid, certificate_names(of), of.created, key)


async def test_an_operator_that_starts_reads_no_secret_and_touches_none() -> None:
    world = await running(training=LONG)
    before = copied(world.cluster.objects[SECRET, "tiny-run"])
    world.cluster.calls.clear()
    world.start_operator()
    await world.live(10)
    assert world.cluster.objects[SECRET, "tiny-run"] == before
    assert not [call for call in world.cluster.calls if "Secret" in call]
    assert world.status["progress"]["step"] > 0 and world.condition("Reconciled")["status"] == "True"


async def test_a_secret_that_a_pod_misses_is_made_again_as_it_was_and_not_all_the_time() -> None:
    world = await running(training=LONG)
    before = world.cluster.objects[SECRET, "tiny-run"]["data"]
    world.cluster.bury(SECRET, "tiny-run")
    world.kubelet_works = False
    world.end_pod("tiny-w1-0", 137)
    await world.live(5, until=lambda: "tiny-w1-1" in world.cluster.names(POD))
    pod = copied(world.cluster.objects[POD, "tiny-w1-1"])
    pod["spec"]["nodeName"] = "node-1"
    pod["status"] = {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "x"}}}]}
    uid = world.cluster.put(pod)["metadata"]["uid"]
    world.cluster.put(_cannot_mount(uid))
    world.cluster.calls.clear()
    await world.live(30)
    assert world.cluster.objects[SECRET, "tiny-run"]["data"] == before
    assert world.cluster.calls.count("create Secret") == 1


def _cannot_mount(uid: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "event-1"},
        "involvedObject": {"uid": uid},
        "reason": "FailedMount",
        "message": 'MountVolume.SetUp failed for volume "run" : secret "tiny-run" not found',
    }


async def test_a_secret_of_somebody_else_is_a_condition_and_heals() -> None:
    world = World()
    foreign = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tiny-run"}, "data": {"a": "Yg=="}}
    uid = world.cluster.put(foreign)["metadata"]["uid"]
    world.submit()
    await world.live(5)
    said = world.condition("Reconciled")
    assert (said["status"], said["reason"]) == ("False", "ChildConflict")
    assert said["message"].startswith("metadata.name tiny: Secret tiny-run exists and may not be deleted")
    assert world.cluster.objects[SECRET, "tiny-run"]["metadata"]["uid"] == uid, "nobody touches it"
    assert world.cluster.names(POD) == [] and world.cluster.names(SERVICE) == []
    world.cluster.bury(SECRET, "tiny-run")
    await world.live(60, until=lambda: world.phase == "Running")


async def test_a_secret_goes_with_the_end_of_its_run_and_once() -> None:
    world = await running()
    await world.live(60, until=lambda: world.phase == "Succeeded")
    await world.live(10)
    assert not world.cluster.names(SECRET)
    assert world.cluster.calls.count("delete Secret") == 1
    world.start_operator()
    await world.live(10)
    assert world.cluster.calls.count("delete Secret") == 1


async def test_while_the_key_is_not_known_nothing_is_made_or_deleted() -> None:
    class Locked(FakeKeys):
        @property
        def current_key_id(self) -> str:
            raise ClusterError("the key was not read yet")

    world = World()
    world.keys = Locked()
    world.start_operator()
    world.submit()
    await world.live(5)
    assert world.cluster.names(POD) == [] and not world.phase
    world.keys = FakeKeys()
    world.start_operator()
    await world.live(30, until=lambda: world.phase == "Running")


# -- the key ---------------------------------------------------------------------------------


def names(cluster: FakeCluster) -> list[str]:
    return cluster.names(SECRET)


async def test_the_first_that_leads_makes_the_key_and_the_next_finds_it() -> None:
    cluster = FakeCluster()
    first, second = Keyring(cluster, PLACE), Keyring(cluster, PLACE)
    with pytest.raises(ClusterError, match="footplate-system/footplate-run-key has not been read yet"):
        _ = first.current_key_id
    await first.begin()
    await second.begin()
    assert first.current_key_id == second.current_key_id and names(cluster) == [PLACE.name]
    assert credentials(first, run(), first.current_key_id) == credentials(second, run(), first.current_key_id)
    assert credentials(first, run(), None) is None and credentials(first, run(), "another") is None


async def test_a_key_that_somebody_deletes_is_put_back() -> None:
    cluster = FakeCluster()
    keyring = Keyring(cluster, PLACE)
    await keyring.refresh()
    before = cluster.objects[SECRET, PLACE.name]["data"]
    cluster.bury(SECRET, PLACE.name)
    await keyring.refresh()
    assert cluster.objects[SECRET, PLACE.name]["data"] == before


async def test_a_key_that_somebody_changes_does_not_change_what_trains(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = FakeCluster()
    keyring = Keyring(cluster, PLACE)
    await keyring.refresh()
    before = keyring.current_key_id
    cluster.put(manifests.secret(PLACE, PLACE.name, {"key": bytes(KEY_BYTES)}))
    await keyring.refresh()
    await keyring.refresh()
    assert keyring.current_key_id == before
    assert (
        len([line for line in caplog.messages if line.startswith("the key of runs' credentials was changed")])
        == 1
    )


@pytest.mark.parametrize("data", [{}, {"key": b"short"}], ids=["empty", "short"])
async def test_a_key_that_is_none_is_named_and_not_replaced(data: dict[str, bytes]) -> None:
    cluster = FakeCluster()
    cluster.put(manifests.secret(PLACE, PLACE.name, data))
    with pytest.raises(ValueError, match="Secret footplate-run-key: key must have 32 bytes, not"):
        await Keyring(cluster, PLACE).refresh()
    assert cluster.calls == []


async def test_it_goes_on_trying() -> None:
    cluster = FakeCluster()
    cluster.down = True
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        cluster.down = len(waits) < 3
        if len(waits) == 4:
            raise asyncio.CancelledError

    keyring = Keyring(cluster, PLACE, sleep)
    await keyring.begin()
    with pytest.raises(asyncio.CancelledError):
        await keyring.run()
    assert keyring.current_key_id and waits[:3] == [0.5, 1.0, 2.0]


# -- handing over --------------------------------------------------------------------------


async def handed(cluster: FakeCluster) -> Keyring:
    keyring = Keyring(cluster, PLACE)
    await keyring.refresh()
    return keyring


async def test_credentials_of_runs_that_may_have_pods_are_handed_over() -> None:
    world = found("training").world(key_known=False)
    world.cluster.refuse.clear()
    assert await handover.hand_over(world.cluster, PLACE, ()) == 1
    keyring = await handed(world.cluster)
    own = read_secret(world.cluster.objects[SECRET, "tiny-run"])
    assert credentials(keyring, run_of(world), None) == own
    assert len([name for name in names(world.cluster) if "handed-over" in name]) == 1


@pytest.mark.parametrize("story", ["suspended", "succeeded", "queued-without-a-profile"])
async def test_others_need_none(story: str) -> None:
    world = found(story).world(key_known=False)
    world.cluster.refuse.clear()
    assert await handover.hand_over(world.cluster, PLACE, ()) == 0
    assert not [name for name in names(world.cluster) if "handed-over" in name]


async def test_what_was_handed_over_of_a_run_that_ended_is_taken_away() -> None:
    world = found("training").world(key_known=False)
    world.cluster.refuse.clear()
    await handover.hand_over(world.cluster, PLACE, ())
    ended = copied(world.run)
    ended["status"]["phase"] = "Succeeded"
    world.cluster.put(ended)
    assert await handover.hand_over(world.cluster, PLACE, ()) == 0
    [shard] = [name for name in names(world.cluster) if "handed-over" in name]
    assert world.cluster.objects[SECRET, shard]["data"] == {}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda body: body.update(data={}), id="emptied"),
        pytest.param(lambda body: body.update(data=None), id="without-data"),
        pytest.param(lambda body: body["metadata"].update(ownerReferences=[]), id="of-somebody-else"),
    ],
)
async def test_a_secret_that_is_none_of_its_run_is_left_out(change: Any) -> None:
    world = found("training").world(key_known=False)
    world.cluster.refuse.clear()
    body = copied(world.cluster.objects[SECRET, "tiny-run"])
    change(body)
    world.cluster.put(body)
    assert await handover.hand_over(world.cluster, PLACE, ()) == 0


@pytest.mark.parametrize("gone", [True, False])
async def test_what_was_handed_over_stays_where_the_secret_of_a_live_run_is_lost(gone: bool) -> None:
    world = found("training").world(key_known=False)
    world.cluster.refuse.clear()
    await handover.hand_over(world.cluster, PLACE, ())
    body = world.cluster.objects[SECRET, "tiny-run"]
    own = read_secret(body)
    if gone:
        await world.cluster.delete(SECRET, body["metadata"]["namespace"], "tiny-run")
    else:
        world.cluster.put({**copied(body), "data": {}})
    assert await handover.hand_over(world.cluster, PLACE, ()) == 0
    keyring = await handed(world.cluster)
    assert credentials(keyring, run_of(world), None) == own


async def test_whose_credentials_are_missed_is_looked_for_again() -> None:
    world = found("training").world(key_known=False)
    world.cluster.refuse.clear()
    keyring = await handed(world.cluster)
    assert credentials(keyring, run_of(world), None) is None
    await handover.hand_over(world.cluster, PLACE, ())
    await keyring.refresh()
    assert credentials(keyring, run_of(world), None) is not None


def test_an_entry_that_cannot_be_read_hides_no_other() -> None:
    whole = any_credentials("a")
    body = manifests.secret(
        PLACE, "shard", {"good": manifests.encode_entry(whole), "bad": b"{", "odd": b"[]"}
    )
    assert manifests.read_entries(body) == {"good": whole}
    assert manifests.read_entries({"data": None}) == {}


def test_each_run_has_one_shard() -> None:
    assert {PLACE.shard(str(number)) for number in range(200)} == set(PLACE.shards)
    assert all(len(name) <= 63 for name in KeySecretNames("n", "x" * 40).shards)


async def test_a_right_that_is_missing_ends_it() -> None:
    world = found("training").world(key_known=False)
    with pytest.raises(RequestForbidden):
        await handover.hand_over(world.cluster, PLACE, ())
    assert (TRAINING_RUN, "tiny") in world.cluster.objects and CORE_EVENT
