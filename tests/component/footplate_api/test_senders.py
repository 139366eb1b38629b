"""Telemetry is taken from the pod that coordinates the run, or did, and from nobody else with any rights."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from footplate_api.coordinators import repository
from footplate_api.coordinators.record import CoordinatorPod
from footplate_api.coordinators.service import STRANGE_SECONDS, CoordinatorAuthorizer
from footplate_api.db.database import Database
from footplate_api.errors import ClusterUnavailable, NotItsCoordinator
from footplate_api.identity.caller import POD_UID, Caller
from footplate_api.kubernetes.client import Manifest
from footplate_api.kubernetes.http import refusal
from footplate_api.models.run import RunCoordinator
from footplate_contracts.problems import ProblemType
from tests.component.footplate_api.builders import batch, checkpoint, row
from tests.component.footplate_api.conftest import Api, running
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.telemetry import GPT
from tests.support.review_server import ADMIN, everything

TELEMETRY = f"{GPT}/telemetry"
ACCOUNT = "system:serviceaccount:research:default"
SERVES = {"podName": "gpt-coordinator-2", "podUID": "pod-2", "epoch": 2}
SERVED = {"podName": "gpt-coordinator-1", "podUID": "pod-1", "epoch": 1}


def of_pod(uid: str, namespace: str = "research") -> Caller:
    return Caller(f"system:serviceaccount:{namespace}:default", extra=((POD_UID, (uid,)),))


async def told(
    api: Api, *coordinators: dict[str, Any], name: str = "gpt", namespace: str = "research"
) -> str:
    """The uid of a run whose status named these, one after the other, as the mirror has seen."""
    for coordinator in coordinators:
        stored = await api.cluster.put(namespace, name, status={"coordinator": coordinator})
        await api.mirrored(stored)
    return str(stored["metadata"]["uid"])


async def post(api: Api, caller: Caller, body: Any) -> httpx.Response:
    headers = api.reviewer.add(f"token-of-{abs(hash(caller))}", caller, lambda right: False)
    return await api.client.post(TELEMETRY, json=body, headers=headers)


@pytest.mark.any_database
@pytest.mark.parametrize(
    "caller",
    [
        pytest.param(of_pod("pod-of-other"), id="coordinator-of-another-run"),
        pytest.param(of_pod("pod-elsewhere"), id="coordinator-of-the-run-of-this-name-elsewhere"),
        pytest.param(of_pod("pod-elsewhere", "other"), id="and-by-its-own-namespace"),
        pytest.param(of_pod("pod-of-a-worker"), id="worker-of-the-run"),
        pytest.param(of_pod("pod-2", "other"), id="another-namespace"),
        pytest.param(of_pod(""), id="a-pod-without-uid"),
        pytest.param(Caller(ACCOUNT), id="account-without-a-pod"),
        pytest.param(Caller("alice", extra=((POD_UID, ("pod-2",)),)), id="a-user-with-the-pods-uid"),
        pytest.param(Caller("admin", groups=("system:masters",)), id="who-may-do-everything"),
    ],
)
async def test_nobody_else_sends_and_nobodys_body_is_read(api: Api, caller: Caller) -> None:
    await told(api, SERVES)
    other = await told(api, {**SERVES, "podUID": "pod-of-other"}, name="other")
    elsewhere = await told(api, {**SERVES, "podUID": "pod-elsewhere"}, namespace="other")
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        sent += 1
        yield b" " * 65536

    headers = api.reviewer.add("token", caller, everything) | {"Content-Type": "application/json"}
    answers = []
    for path in (TELEMETRY, TELEMETRY.replace("gpt", "no-such-run"), TELEMETRY.replace("gpt", "..")):
        answers.append(await api.client.post(path, content=body(), headers=headers))
    assert sent == 0
    for answer in answers[:2]:
        assert answer.status_code == 403
        assert answer.json()["type"] == "urn:footplate:problem:not-its-coordinator"
        for foreign in (other, elsewhere, "pod-", "other"):
            assert foreign not in answer.text
    assert answers[2].status_code in (403, 404)  # where a client resolves the dots itself
    assert answers[0].json()["detail"].replace("gpt", "no-such-run") == answers[1].json()["detail"]


async def test_the_admin_of_the_tests_is_nobodys_coordinator_either(api: Api) -> None:
    uid = await told(api, SERVES)
    answer = await api.client.post(TELEMETRY, json=batch(uid, [row(1)]))
    assert answer.status_code == 403 and ADMIN in answer.request.headers["authorization"]


async def test_who_coordinates_and_who_did_may_send_what_they_know(api: Api) -> None:
    uid = await told(api, SERVED, SERVES)
    for pod, epoch, status in (("pod-2", 2, 200), ("pod-1", 1, 200), ("pod-2", 1, 200), ("pod-1", 2, 422)):
        answer = await post(api, of_pod(pod), batch(uid, [row(epoch, (epoch, 1))]))
        assert answer.status_code == status, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == ["body.epoch"]
    assert "at most the epoch of the sending pod, 1" in answer.json()["detail"]


async def test_a_token_that_the_kubelet_renewed_is_the_same_pods(api: Api) -> None:
    uid = await told(api, SERVES)
    for token, step in (("first", 1), ("second", 2)):
        headers = api.reviewer.add_pod(token, "pod-2", "research")
        answer = await api.client.post(TELEMETRY, json=batch(uid, [row(step)]), headers=headers)
        assert answer.status_code == 200
        assert await rows(api, uid) == step
        api.cluster.available = False  # the second time there is nothing to ask for


async def rows(api: Api, uid: str) -> int:
    return len((await api.client.get(f"{GPT}/metrics", params={"uid": uid})).json()["step"])


def _late(**parts: Any) -> dict[str, Any]:
    return {**batch("RUN"), "epoch": 2, **parts}


LATER = {"epoch": 3, "number": 1}


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        pytest.param(batch("another-uid"), 409, None, id="another-run"),
        pytest.param({**batch("RUN"), "epoch": 3}, 422, "body.epoch", id="epoch"),
        pytest.param(_late(rows=[row(1, (3, 1))]), 422, "body.rows[0].generation.epoch", id="row"),
        pytest.param(
            _late(checkpoints=[{**checkpoint(1), "generation": LATER}]),
            422,
            "body.checkpoints[0].generation.epoch",
            id="checkpoint",
        ),
        pytest.param(
            _late(checkpoints=[{**checkpoint(1), "uri": "/x/step-1.e3g1"}]),
            422,
            "body.checkpoints[0].uri",
            id="directory-of-a-checkpoint",
        ),
        pytest.param(
            _late(removals=[{"step": 1, "generation": LATER, "time": 1.0}]),
            422,
            "body.removals[0].generation.epoch",
            id="removal",
        ),
    ],
)
async def test_what_a_coordinator_cannot_know_is_refused(
    api: Api, body: dict[str, Any], status: int, field: str | None
) -> None:
    uid = await told(api, SERVES)
    body = {**body, "runUid": uid if body["runUid"] == "RUN" else body["runUid"]}
    answer = await post(api, of_pod("pod-2"), body)
    assert answer.status_code == status, answer.text
    assert answer.json()["type"] == (ProblemType.INVALID if field else ProblemType.RUN_MISMATCH)
    assert [error["field"] for error in answer.json().get("errors", [])] == ([field] if field else [])
    assert uid not in answer.text


async def test_the_last_rows_of_a_deleted_run_are_taken_though_its_name_has_another(api: Api) -> None:
    uid = await told(api, SERVES)
    await api.cluster.remove("research", "gpt")
    again = await told(api, {**SERVES, "podUID": "pod-of-the-next"})
    assert uid != again
    for pod, run, status in (("pod-2", uid, 200), ("pod-2", again, 409), ("pod-of-the-next", uid, 409)):
        assert (await post(api, of_pod(pod), batch(run, [row(1)]))).status_code == status
    assert (await rows(api, uid), await rows(api, again)) == (1, 0)


async def test_what_a_list_shows_is_known_as_what_a_watch_brings(database_url: str) -> None:
    cluster = await cluster_with(**SERVED)
    async with running(database_url, cluster) as api:
        await api.mirrored(cluster.objects["research", "gpt"])
        asked = cluster.gets  # by the mirror
        cluster.silent = True
        await cluster.put("research", "gpt", status={"coordinator": SERVES})
        assert (await post(api, of_pod("pod-1"), batch("uid-of-gpt", [row(1)]))).status_code == 200
        assert cluster.gets == asked


async def test_a_mirror_that_lags_refuses_nobody(api: Api) -> None:
    uid = await told(api, SERVED)
    api.cluster.silent = True
    await api.cluster.put("research", "gpt", status={"coordinator": SERVES})
    body = batch(uid, [row(1, (2, 1))])
    assert (await post(api, of_pod("pod-2"), body)).status_code == 200
    api.cluster.available = False
    assert (await post(api, of_pod("pod-2"), body)).status_code == 200
    strange = await post(api, of_pod("pod-3"), body)
    assert strange.status_code == 503 and strange.headers["retry-after"]


# -- how it is told --------------------------------------------------------------------


class Clock:
    """Seconds that only the test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


async def cluster_with(**coordinator: Any) -> FakeCluster:
    cluster = FakeCluster()
    await cluster.put("research", "gpt", metadata={"uid": "uid-of-gpt"}, status={"coordinator": coordinator})
    return cluster


async def sender(known: CoordinatorAuthorizer, pod: str, name: str = "gpt") -> str:
    return (await known.authorize(of_pod(pod), "research", name)).run_uid


async def test_what_kubernetes_said_is_known_when_the_run_is_gone(database: Database) -> None:
    cluster = await cluster_with(**SERVES)
    assert await sender(CoordinatorAuthorizer(database, cluster), "pod-2") == "uid-of-gpt"
    await cluster.remove("research", "gpt")
    assert await sender(CoordinatorAuthorizer(database, cluster), "pod-2") == "uid-of-gpt"
    assert cluster.gets == 1


async def test_a_stranger_makes_kubernetes_be_asked_once_in_a_moment(database: Database) -> None:
    cluster, clock = await cluster_with(**SERVES), Clock()
    known = CoordinatorAuthorizer(database, cluster, clock)

    async def refused(number: int) -> bool:
        try:
            await sender(known, "stranger", f"run-{number}")
        except NotItsCoordinator:
            return True
        return False

    assert all(await asyncio.gather(*(refused(number) for number in range(50))))
    assert cluster.gets == 1
    clock.seconds += STRANGE_SECONDS
    assert await refused(51)
    assert cluster.gets == 2


async def test_who_becomes_the_coordinator_is_let_in_a_moment_later(database: Database) -> None:
    cluster, clock = await cluster_with(podName="gpt-coordinator-2", epoch=2), Clock()
    known = CoordinatorAuthorizer(database, cluster, clock)
    with pytest.raises(NotItsCoordinator):
        await sender(known, "pod-2")
    await cluster.put("research", "gpt", status={"coordinator": SERVES})
    clock.seconds += STRANGE_SECONDS
    assert await sender(known, "pod-2") == "uid-of-gpt"


async def test_an_api_server_that_is_away_or_mute_refuses_nobody_for_good(database: Database) -> None:
    class Mute(FakeCluster):
        async def get_run(self, namespace: str, name: str) -> Manifest:
            await asyncio.Event().wait()
            raise AssertionError("nobody sets it")

    cluster = await cluster_with(**SERVES)
    cluster.available = False
    known = CoordinatorAuthorizer(database, cluster)
    for asked in (known, CoordinatorAuthorizer(database, Mute(), timeout=0.05)):
        with pytest.raises(ClusterUnavailable):
            await sender(asked, "pod-2")
    cluster.available = True
    assert await sender(known, "pod-2") == "uid-of-gpt"


@pytest.mark.parametrize("status", [400, 409, 413, 422])
async def test_a_refusal_of_what_the_api_asked_is_no_verdict_on_the_senders_rows(
    database: Database, status: int
) -> None:
    class Refusing(FakeCluster):
        async def get_run(self, namespace: str, name: str) -> Manifest:
            raise refusal(status, "Bad Request, says a load balancer")

    known = CoordinatorAuthorizer(database, Refusing())
    with pytest.raises(ClusterUnavailable, match=f"answered {status}: Bad Request, says a load balancer"):
        await sender(known, "pod-2")


async def test_memory_is_bounded_and_the_database_has_the_rest(database: Database) -> None:
    cluster = await cluster_with(**SERVES)
    known = CoordinatorAuthorizer(database, cluster, most=2)
    pods = [CoordinatorPod(f"p{number}", f"u{number}", "research", f"r{number}", 1) for number in range(5)]
    async with database.write() as session:
        await repository.store_coordinators(session, pods)
        await repository.store_coordinators(session, [*pods, pods[0]._replace(epoch=7)])
    for pod in [*pods, *pods]:
        assert await sender(known, pod.pod_uid, pod.name) == pod.run_uid
    assert cluster.gets == 0
    async with database.read() as session:
        assert await repository.find(session, "research", "r0", "p0") == pods[0]
        assert (await session.execute(select(func.count()).select_from(RunCoordinator))).scalar_one() == 5
