"""Nobody is served whom Kubernetes does not know, or does not let; and nothing of a body is read before."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi.routing import APIRoute

from footplate_api.app import ROUTERS
from footplate_api.identity.access import AccessPolicy
from footplate_api.identity.caller import Caller, Right
from footplate_api.identity.rights import LISTS_FORMER, READS_METRICS, SEES_ALL_COSTS, RequiredRight
from footplate_api.telemetry.routes import OF_ITS_COORDINATOR
from tests.component.footplate_api.builders import RUNS
from tests.component.footplate_api.conftest import Api, running
from tests.component.footplate_api.fakes import FakeCluster
from tests.support.review_server import within

pytestmark = pytest.mark.any_database

RUN = f"{RUNS}/gpt"
OTHER = "/v1/namespaces/other/runs"
OTHERS = tuple(
    asked.dependency for asked in (READS_METRICS, LISTS_FORMER, SEES_ALL_COSTS, OF_ITS_COORDINATOR)
)
OF_A_RUN = ("", "/metrics", "/attempts", "/checkpoints")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", path) for path in (RUNS, RUN, f"{RUN}/metrics", "/metrics", "/docs", "/openapi.json")),
        ("GET", "/nowhere"),
        ("PUT", RUNS),
        ("GET", "/v1/namespaces/NOT-A-NAME/runs"),
        ("POST", RUNS),
        ("POST", f"{RUN}/telemetry"),
        ("DELETE", RUN),
    ],
)
async def test_without_a_token_there_is_no_answer_but_401(api: Api, method: str, path: str) -> None:
    headers = {"Authorization": ""}
    for answer in (
        await api.client.request(method, path, headers=headers),
        await api.client.request(method, path, headers={"Authorization": "Bearer nobodys"}),
    ):
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.json()["type"] == "urn:footplate:problem:unauthenticated"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/version"])
async def test_probes_need_no_token(api: Api, path: str) -> None:
    answer = await api.client.get(path, headers={"Authorization": "Bearer nobodys"})
    assert answer.status_code == 200


@pytest.mark.parametrize("token", ["none", "nobodys", "of-a-viewer"])
async def test_a_body_is_not_read_before_its_sender_may_send_it(api: Api, token: str) -> None:
    api.reviewer.add("of-a-viewer", Caller("viewer"), within("research"))
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b" " * 65536

    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    if token == "none":
        headers["Authorization"] = ""
    answer = await api.client.post(RUNS, content=body(), headers=headers)
    assert (answer.status_code, sent) == (403 if token == "of-a-viewer" else 401, 0)


async def test_a_forbidden_namespace_tells_nothing_of_what_is_in_it(api: Api) -> None:
    stored = await api.cluster.put("other", "gpt")
    await api.mirrored(stored)
    headers = api.reviewer.add("t", Caller("alice"), within("research"))
    for part in OF_A_RUN:
        answers = [await api.client.get(f"{OTHER}/{name}{part}", headers=headers) for name in ("gpt", "gone")]
        for answer in answers:
            assert answer.status_code == 403
            answer_names = answer.json()["detail"].replace('"gpt"', '"gone"')
            assert answer_names == (
                'alice may not get trainingruns.footplate.dev "gone" in the namespace "other".'
            )
    assert (await api.client.get(OTHER, headers=headers)).status_code == 403
    assert (await api.client.get(RUNS, headers=headers)).status_code == 200


async def test_who_may_read_may_not_write(api: Api) -> None:
    headers = api.reviewer.add("t", Caller("alice"), within("research"))
    await api.mirrored(await api.cluster.put("research", "gpt"))
    assert (await api.client.get(RUN, headers=headers)).status_code == 200
    created = await api.client.post(RUNS, json={"metadata": {"name": "a"}, "spec": {}}, headers=headers)
    deleted = await api.client.delete(RUN, headers=headers)
    assert (created.status_code, deleted.status_code) == (403, 403)
    assert ("research", "gpt") in api.cluster.objects and len(api.cluster.objects) == 1


async def test_no_parameter_has_a_second_name_that_openapi_does_not_tell(api: Api) -> None:
    paths = (await api.client.get("/openapi.json")).json()["paths"]
    asked = 0
    for path, verbs in paths.items():
        told = {parameter["name"] for parameter in verbs.get("get", {}).get("parameters", ())}
        for name in sorted(told - {"formerNamespaces", "If-None-Match"}):
            other = re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", name)
            if other != name:
                answer = await api.client.get(
                    path.format(namespace="research", name="gpt"), params={other: "1"}
                )
                assert answer.status_code == 422 and f"query.{other}" in answer.text, (path, other)
                asked += 1
    assert asked > 10


@pytest.mark.parametrize("path", [RUNS, "/v1/runs", *(f"{RUN}{part}" for part in OF_A_RUN[1:])])
async def test_runs_of_former_namespaces_are_asked_for_by_one_name(api: Api, path: str) -> None:
    headers = api.reviewer.add("t", Caller("alice"), within("research"))
    answer = await api.client.get(path, params={"former_namespaces": "true"}, headers=headers)
    assert answer.status_code == 422 and "query.former_namespaces" in answer.text


@pytest.mark.parametrize("said", ["true", "1", "on", "YES", "t", "nonsense"])
async def test_runs_of_former_namespaces_are_for_who_may_list_all(api: Api, said: str) -> None:
    headers = api.reviewer.add("t", Caller("alice"), within("research"))
    query = {"formerNamespaces": said}
    for path in (RUNS, *(f"{RUN}{part}" for part in OF_A_RUN)):
        answer = await api.client.get(path, params=query, headers=headers)
        assert answer.status_code == 403 and "in all namespaces" in answer.json()["detail"]
    assert (await api.client.get(RUNS, params={"formerNamespaces": "false"}, headers=headers)).is_success


async def test_a_right_on_one_name_is_a_right_on_that_name(api: Api) -> None:
    def named(right: Right) -> bool:
        return (right.verb, right.namespace, right.name) == ("get", "research", "gpt")

    headers = api.reviewer.add("t", Caller("alice"), named)
    await api.mirrored(await api.cluster.put("research", "gpt"))
    assert (await api.client.get(RUN, headers=headers)).status_code == 200
    assert (await api.client.get(f"{RUNS}/other", headers=headers)).status_code == 403
    assert (await api.client.get(RUNS, headers=headers)).status_code == 403


async def test_metrics_are_for_who_may_get_their_url(api: Api) -> None:
    headers = api.reviewer.add("t", Caller("alice"), within("research"))
    assert (await api.client.get("/metrics", headers=headers)).status_code == 403
    headers = api.reviewer.add(
        "p", Caller("prometheus"), lambda right: right == Right("get", path="/metrics"), audience="kubernetes"
    )
    assert (await api.client.get("/metrics", headers=headers)).status_code == 200
    assert (await api.client.get(RUNS, headers=headers)).status_code == 401


async def test_metrics_and_documents_may_be_made_public(database_url: str) -> None:
    access = AccessPolicy(metrics_public=True, docs_public=True)
    async with running(database_url, FakeCluster(), access) as api:
        for path in ("/metrics", "/docs", "/docs/swagger-ui.css", "/openapi.json"):
            answer = await api.client.get(path, headers={"Authorization": ""})
            assert answer.status_code == 200, path
        assert (await api.client.get(RUNS, headers={"Authorization": ""})).status_code == 401


async def test_an_api_server_that_is_away_is_no_refusal_and_readers_read_on(api: Api) -> None:
    assert (await api.client.get(RUNS)).status_code == 200
    headers = api.reviewer.add("t", Caller("alice"), within("research"))
    api.reviewer.available = False
    assert (await api.client.get(RUNS)).status_code == 200
    answer = await api.client.get(RUNS, headers=headers)
    assert answer.status_code == 503 and answer.headers["retry-after"]


async def test_two_headers_are_nobodys(api: Api) -> None:
    headers = [("Authorization", "Bearer a"), ("Authorization", "Bearer b")]
    request = api.client.build_request("GET", RUNS)
    request.headers = type(request.headers)([*headers, ("Host", "api")])
    assert (await api.client.send(request)).status_code == 401


def rights(route: APIRoute) -> list[Any]:
    asked = [dependency.dependency for dependency in route.dependencies]
    return [found for found in asked if isinstance(found, RequiredRight) or found in OTHERS]


def test_every_route_says_which_right_it_takes() -> None:
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    without = {route.name for route in routes if route.include_in_schema and not rights(route)}
    assert without == {"healthz", "readyz", "version"}


async def test_telemetry_that_is_refused_at_the_door_is_no_line_in_the_log(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="footplate_api.access"):
        answer = await api.client.post(f"{RUN}/telemetry", headers={"Authorization": "Bearer nobodys"})
        await api.client.get(RUN, headers={"Authorization": "Bearer nobodys"})
    assert answer.status_code == 401
    said = [record.getMessage() for record in caplog.records if record.name == "footplate_api.access"]
    assert said == [f"GET {RUN}"]
