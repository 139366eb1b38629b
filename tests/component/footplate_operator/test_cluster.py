"""The client against a real API server: apply, preconditions, errors as types."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from cluster.kubernetes.envtest import ApiServer
from cluster.machine.ports import claim_ports
from footplate_operator.errors import AlreadyExists, ClusterError, Conflict, NotFound, ObjectInvalid
from footplate_operator.profiles import PROFILE
from footplate_operator.runtime.cluster import KubernetesCluster, login
from footplate_operator.runtime.kinds import CONFIG_MAP, POD, Json
from footplate_operator.runtime.metrics import serving
from footplate_operator.trainingrun.run import TRAINING_RUN
from tests.component.footplate_operator.api import Api
from tests.support.operator_fakes import run_manifest

pytestmark = pytest.mark.asyncio(loop_scope="function")


@pytest.fixture
async def cluster(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KubernetesCluster]:
    """The operator's client as an administrator."""
    client = KubernetesCluster(await login(str(server.kubeconfig)))
    yield client
    await client.close()


def _config_map(api: Api, name: str = "x", **data: str) -> Json:
    metadata = {"name": name, "namespace": api.namespace, "labels": {"team": "a"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


@pytest.mark.parametrize(
    "message",
    [
        pytest.param("plain words", id="ascii"),
        pytest.param("größer ─── 字", id="other-scripts"),
        pytest.param("🔥 loss is NaN 🔥", id="beyond-the-first-plane"),
        pytest.param("\x1b[31mred\x1b[0m\tand\nlines\r\n", id="terminal-colours"),
        pytest.param("\x7f\x80\x85\x9f\xa0", id="controls"),
        pytest.param("a\u2028b\u2029c\ufeffd\uffff", id="line-separators-and-marks"),
        pytest.param('back\\slash \\ud83d "quotes" \\u0041', id="what-looks-like-an-escape"),
    ],
)
async def test_a_status_keeps_any_words(cluster: KubernetesCluster, api: Api, message: str) -> None:
    run = run_manifest()
    run["metadata"]["namespace"] = api.namespace
    created = await cluster.create(TRAINING_RUN, run)
    condition = {
        "type": "Ready",
        "status": "False",
        "lastTransitionTime": "2026-01-31T12:00:00.123Z",
        "reason": "PythonError",
        "message": message,
    }
    body = {
        "apiVersion": run["apiVersion"],
        "kind": "TrainingRun",
        "metadata": {"name": "tiny", "namespace": api.namespace, "uid": created["metadata"]["uid"]},
        "status": {"phase": "Failed", "conditions": [condition]},
    }
    await cluster.apply(TRAINING_RUN, body, "status")
    found = await cluster.get(TRAINING_RUN, api.namespace, "tiny")
    assert found["status"]["conditions"][0]["message"] == message


async def test_half_a_character_is_replaced(cluster: KubernetesCluster, api: Api) -> None:
    run = run_manifest()
    run["metadata"]["namespace"] = api.namespace
    await cluster.create(TRAINING_RUN, run)
    attempt = {"number": 1, "start": "2026-01-31T12:00:00Z", "message": "half \udcff of it"}
    metadata = {"name": "tiny", "namespace": api.namespace}
    body = {**run, "metadata": metadata, "status": {"attempts": [attempt]}}
    del body["spec"]
    applied = await cluster.apply(TRAINING_RUN, body, "status")
    assert applied["status"]["attempts"][0]["message"] == "half \ufffd of it"


async def test_a_status_is_written_on_top_of_what_was_read_only(cluster: KubernetesCluster, api: Api) -> None:
    run = run_manifest()
    run["metadata"]["namespace"] = api.namespace
    old = await cluster.create(TRAINING_RUN, run)
    await cluster.delete(TRAINING_RUN, api.namespace, "tiny")
    await cluster.create(TRAINING_RUN, run)
    metadata = {"name": "tiny", "namespace": api.namespace}
    metadata["resourceVersion"] = old["metadata"]["resourceVersion"]
    body = {"apiVersion": run["apiVersion"], "kind": "TrainingRun", "metadata": metadata}
    with pytest.raises(Conflict):
        await cluster.apply(TRAINING_RUN, {**body, "status": {"phase": "Failed"}}, "status")


async def test_errors_are_types(cluster: KubernetesCluster, api: Api) -> None:
    await cluster.create(CONFIG_MAP, _config_map(api, a="1"))
    with pytest.raises(AlreadyExists):
        await cluster.create(CONFIG_MAP, _config_map(api, a="2"))
    with pytest.raises(NotFound):
        await cluster.get(CONFIG_MAP, api.namespace, "y")
    with pytest.raises(ObjectInvalid, match="Invalid value"):
        await cluster.create(CONFIG_MAP, _config_map(api, name="Not_A_Name"))
    with pytest.raises(ClusterError, match="not found"):
        await cluster.create(
            CONFIG_MAP, {**_config_map(api), "metadata": {"name": "x", "namespace": "no-such"}}
        )


async def test_only_the_object_that_is_meant_is_deleted(cluster: KubernetesCluster, api: Api) -> None:
    made = await cluster.create(CONFIG_MAP, _config_map(api))
    await cluster.delete(CONFIG_MAP, api.namespace, "x", uid="another")
    assert (await cluster.get(CONFIG_MAP, api.namespace, "x"))["metadata"]["uid"] == made["metadata"]["uid"]
    await cluster.delete(CONFIG_MAP, api.namespace, "x", uid=made["metadata"]["uid"])
    await cluster.delete(CONFIG_MAP, api.namespace, "x")  # gone already: no error
    assert await cluster.find(CONFIG_MAP, api.namespace, "team=a") == []


async def test_one_request_deletes_what_matches(cluster: KubernetesCluster, api: Api) -> None:
    for name in ("a", "b"):
        await cluster.create(CONFIG_MAP, _config_map(api, name=name))
    await cluster.delete_all(CONFIG_MAP, api.namespace, "team=a")
    assert await cluster.find(CONFIG_MAP, api.namespace, "team=a") == []


async def test_a_pod_that_was_made_can_be_told_to_stop(cluster: KubernetesCluster, api: Api) -> None:
    container = {"name": "main", "image": "x"}
    metadata = {"name": "p", "namespace": api.namespace}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}
    made = await cluster.create(POD, pod)
    patch = {"metadata": {"uid": made["metadata"]["uid"]}, "spec": {"activeDeadlineSeconds": 1}}
    stopped = await cluster.merge(POD, api.namespace, "p", patch)
    assert stopped["spec"]["activeDeadlineSeconds"] == 1
    with pytest.raises(ObjectInvalid, match="field is immutable"):
        await cluster.merge(POD, api.namespace, "p", {**patch, "metadata": {"uid": "another"}})


async def test_a_lost_update_is_a_conflict(cluster: KubernetesCluster, api: Api) -> None:
    first = await cluster.create(CONFIG_MAP, _config_map(api, a="1"))
    await cluster.replace(CONFIG_MAP, {**first, "data": {"a": "2"}})
    with pytest.raises(Conflict):
        await cluster.replace(CONFIG_MAP, {**first, "data": {"a": "3"}})


async def test_everything_is_listed_page_by_page(cluster: KubernetesCluster, api: Api) -> None:
    names = [profile["metadata"]["name"] for profile in await cluster.find(PROFILE, "")]
    assert "local-cpu" in names
    for name in ("a", "b", "c"):
        await cluster.create(CONFIG_MAP, _config_map(api, name=name))
    pages = [page async for page in cluster.pages(CONFIG_MAP, api.namespace, "team=a", size=2)]
    assert [[body["metadata"]["name"] for body in page] for page in pages] == [["a", "b"], ["c"]]


async def test_a_server_that_is_away_is_told_so() -> None:
    configuration = Configuration(host="http://127.0.0.1:1")
    client = KubernetesCluster(configuration)
    with pytest.raises(ClusterError, match=r"127\.0\.0\.1") as caught:
        await client.get(CONFIG_MAP, "default", "x")
    assert caught.value.status == 0
    await client.close()


async def test_how_long_to_wait_is_read_from_the_answer() -> None:
    async def busy(_: web.Request) -> web.Response:
        return web.json_response({"message": "too many requests"}, status=429, headers={"Retry-After": "7"})

    app = web.Application()
    app.add_routes([web.post("/api/v1/namespaces/default/configmaps", busy)])
    port = claim_ports(1)[0]
    async with serving(app, port):
        client = KubernetesCluster(Configuration(host=f"http://127.0.0.1:{port}"))
        with pytest.raises(ClusterError, match="too many requests") as caught:
            await client.create(CONFIG_MAP, {"metadata": {"name": "x", "namespace": "default"}})
        await client.close()
    assert (caught.value.status, caught.value.retry_after) == (429, 7.0)


async def test_calls_that_hang_leave_room_for_others() -> None:
    """A webhook that does not answer, under a hundred workers that are to be made."""

    async def hang(_: web.Request) -> web.Response:
        hanging.release()
        await asyncio.Event().wait()
        raise AssertionError

    async def show(_: web.Request) -> web.Response:
        return web.json_response({"metadata": {"name": "x"}})

    hanging = asyncio.Semaphore(0)
    app = web.Application()
    pods = "/api/v1/namespaces/team/pods"
    app.add_routes([web.post(pods, hang), web.get("/api/v1/namespaces/team/configmaps/x", show)])
    port = claim_ports(1)[0]
    client = KubernetesCluster(Configuration(host=f"http://127.0.0.1:{port}"))
    async with serving(app, port):
        metadata = {"name": "p", "namespace": "team"}
        calls = [asyncio.create_task(client.create(POD, {"metadata": metadata})) for _ in range(150)]
        try:
            async with asyncio.timeout(20):
                for _ in calls:
                    await hanging.acquire()
                await client.get(CONFIG_MAP, "team", "x")
        finally:
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            await client.close()
