"""What every request gets: an id, a limit, a measurement, and problems instead of tracebacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import generate_latest

from footplate_api.app_context import AppContext
from footplate_api.db.database import Database
from footplate_api.http.middleware import BODY_LIMIT, RequestEdge
from footplate_api.instruments import ApiMetrics, MirrorHealth
from footplate_api.kubernetes.client import Manifest
from footplate_api.kubernetes.http import refusal
from footplate_api.settings import with_driver
from footplate_api.telemetry.routes import AdmittedBody
from footplate_api.telemetry.telemetry_admission import BodyMemoryLimits
from tests.component.footplate_api.builders import RUNS, batch, eventually, row
from tests.component.footplate_api.conftest import Api, running
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.postgres import Server
from tests.support.review_server import FakeReviewer

pytestmark = pytest.mark.any_database

TELEMETRY = f"{RUNS}/gpt/telemetry"


async def test_health_readiness_version(api: Api) -> None:
    assert (await api.client.get("/healthz")).json() == {"status": "ok"}
    ready = await api.client.get("/readyz")
    assert (ready.status_code, ready.json()["database"]) == (200, "ok")
    version = (await api.client.get("/version")).json()
    assert version["revision"] == "abc123"
    assert version["api"][0].isdigit() and version["contracts"][0].isdigit()


async def test_requests_are_counted_by_route_template(api: Api) -> None:
    for name in ("a", "b", "c"):
        await api.client.get(f"{RUNS}/{name}")
    await api.client.get("/no/such/page")
    await api.client.request("FOO", "/healthz")
    text = (await api.client.get("/metrics")).text
    template = "/v1/namespaces/{namespace}/runs/{name}"
    assert f'footplate_api_requests_total{{method="GET",route="{template}",status="404"}} 3.0' in text
    assert 'route="unmatched",status="404"} 1.0' in text
    assert 'method="other",route="/healthz",status="405"} 1.0' in text and "FOO" not in text
    assert f'footplate_api_request_duration_seconds_count{{method="GET",route="{template}"}} 3.0' in text


async def test_runs_have_gauges_while_they_train(api: Api) -> None:
    for name in ("gpt", "old"):
        await api.cluster.put(
            "research", name, metadata={"uid": f"uid-of-{name}"}, status={"phase": "Running"}
        )
    sent, headers = batch("uid-of-gpt", [row(1), row(2, loss=1.5)]), await api.coordinator("uid-of-gpt")
    await api.client.post(TELEMETRY, json=sent, headers=headers)
    await api.cluster.remove("research", "old")

    async def metrics() -> str:
        return (await api.client.get("/metrics")).text

    text = await eventually(metrics, lambda text: 'name="gpt"' in text and 'name="old"' not in text)
    assert 'footplate_run_step{name="gpt",namespace="research"} 2.0' in text
    assert 'footplate_run_loss{name="gpt",namespace="research"} 1.5' in text
    assert 'footplate_run_status{name="gpt",namespace="research",phase="Running"} 1.0' in text
    assert 'footplate_run_learning_rate{name="gpt",namespace="research"} ' in text
    assert "footplate_api_ingested_rows_total 2.0" in text


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        pytest.param("trace-1.2:3", True, id="sane"),
        pytest.param("a" * 65, False, id="too-long"),
        pytest.param("a b\x01", False, id="unprintable"),
    ],
)
async def test_a_sane_request_id_is_kept(api: Api, given: str, kept: bool) -> None:
    answer = await api.client.get("/healthz", headers={"X-Request-Id": given})
    assert (answer.headers["x-request-id"] == given) is kept
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("GET", "/v2/nothing", 404, id="no-such-path"),
        pytest.param("PUT", RUNS, 405, id="no-such-method"),
        pytest.param("GET", f"{RUNS}/nothing/checkpoints", 404, id="no-such-run"),
    ],
)
async def test_every_error_is_a_problem(api: Api, method: str, path: str, status: int) -> None:
    answer = await api.client.request(method, path)
    problem = answer.json()
    assert answer.status_code == problem["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["requestId"] == answer.headers["x-request-id"]
    assert problem["type"].startswith("urn:footplate:problem:")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{", id="cut-off"),
        pytest.param(b"\xff\xfe", id="not-utf-8"),
        pytest.param(b"", id="empty"),
        pytest.param(b"[" * 100_000, id="deeply-nested"),
    ],
)
async def test_a_body_that_is_no_json_is_a_users_mistake(api: Api, body: bytes) -> None:
    headers = {"content-type": "application/json", **await api.coordinator("uid")}
    answer = await api.client.post(TELEMETRY, content=body, headers=headers)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        pytest.param(
            RUNS, rb'{"metadata": {"name": "a"}, "spec": {"x": [1, NaN]}}', "body.spec.x[1]", id="nan"
        ),
        pytest.param(
            RUNS, rb'{"metadata": {"name": "a"}, "spec": {"x": 1e999}}', "body.spec.x", id="infinite"
        ),
        pytest.param(RUNS, rb'{"metadata": {"name": "\ud800"}, "spec": {}}', "body.metadata.name", id="text"),
        pytest.param(RUNS, rb'{"metadata": {"\ud800": 1}, "spec": {}}', "body.metadata.\\ud800", id="key"),
        pytest.param(TELEMETRY, rb'{"runUid": "\ud800", "epoch": 1}', "body.runUid", id="uid"),
    ],
)
async def test_what_python_takes_for_json_is_refused_by_name(
    api: Api, path: str, body: bytes, field: str
) -> None:
    headers = {"content-type": "application/json"}
    headers |= await api.coordinator("uid") if path == TELEMETRY else {}
    answer = await api.client.post(path, content=body, headers=headers)
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_a_run_that_is_nested_without_end_is_refused(api: Api) -> None:
    body = b'{"metadata": {"name": "a"}, "spec": {"x": %s}}' % (b"[" * 400 + b"]" * 400)
    answer = await api.client.post(RUNS, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, "deeper than 64 levels" in answer.json()["detail"]) == (422, True)


async def test_of_thousands_of_wrong_fields_those_of_the_first_row_are_named(api: Api) -> None:
    wrong = dict.fromkeys(row(1)["metrics"], "x" * 30)
    rows = [{**row(step), "metrics": wrong} for step in range(5000)]
    headers = await api.coordinator("uid")
    answer = await api.client.post(TELEMETRY, json=batch("uid", rows), headers=headers)
    fields = [error["field"] for error in answer.json()["errors"]]
    assert answer.status_code == 422
    assert set(fields) == {f"body.rows[0].metrics.{name}" for name in wrong if name != "sampleDigest"}
    assert len(answer.content) < 50_000 and " more" in answer.json()["detail"]


async def test_of_thousands_of_wrong_fields_a_hundred_are_named(api: Api) -> None:
    names = "&".join(["names=%25"] * 1000)
    answer = await api.client.get(f"{RUNS}/gpt/metrics?{names}")
    assert (answer.status_code, len(answer.json()["errors"])) == (422, 100)


async def test_a_body_that_was_not_announced_as_json_says_so(api: Api) -> None:
    answer = await api.client.post(RUNS, content=b'{"metadata": {"name": "a"}, "spec": {}}')
    assert answer.status_code == 422
    assert "Content-Type: application/json" in answer.json()["detail"]


async def _chunks() -> Any:
    for _ in range(BODY_LIMIT // 65536 + 2):
        yield b" " * 65536


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "streamed"])
async def test_a_body_beyond_the_limit_is_refused(api: Api, announced: bool) -> None:
    content = b" " * (BODY_LIMIT + 1) if announced else _chunks()
    headers = {"content-type": "application/json", **await api.coordinator("uid")}
    answer = await api.client.post(TELEMETRY, content=content, headers=headers)
    assert answer.status_code == 413
    assert answer.json()["detail"].endswith(f"the body must be at most {BODY_LIMIT} bytes")


async def test_a_sender_that_leaves_is_no_failure_of_ours(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app, metrics, sent = FastAPI(), ApiMetrics(), list[Any]()
    database = Database(with_driver(f"sqlite:///{tmp_path}/never-opened.db"))
    app.state.context = AppContext(database, FakeCluster(), FakeReviewer(), metrics, MirrorHealth())
    app.state.admission = BodyMemoryLimits()

    @app.post("/")
    async def take(body: AdmittedBody) -> int:
        return len(body)

    async def leaves() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    app.add_middleware(RequestEdge, metrics=metrics)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"9")]
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
    await app(scope, leaves, send)
    assert (sent, app.state.admission.small.used) == ([], 0)
    assert b'status="499"} 1.0' in generate_latest(metrics.registry)
    assert not [record for record in caplog.records if record.exc_info]


async def test_our_own_mistakes_show_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    app = FastAPI()

    @app.get("/")
    async def broken() -> None:
        raise RuntimeError("password is hunter2")

    app.add_middleware(RequestEdge, metrics=ApiMetrics())
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        answer = await client.get("/", headers={"X-Request-Id": "find-me"})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "hunter2" not in answer.text
    assert "hunter2" in caplog.text


class WithoutRights(FakeCluster):
    """An API server that does not let this API's account create runs."""

    async def create_run(self, namespace: str, manifest: Manifest) -> Manifest:
        message = 'x is forbidden: User "system:serviceaccount:a:b" cannot create resource "trainingruns"'
        raise refusal(403, json.dumps({"message": message}))


async def test_rights_that_the_api_lacks_are_no_403_of_the_caller(sqlite_url: str) -> None:
    async with running(sqlite_url, WithoutRights()) as api:
        answer = await api.client.post(RUNS, json={"metadata": {"name": "gpt"}, "spec": {}})
    assert (answer.status_code, answer.json()["type"]) == (
        502,
        "urn:footplate:problem:installation-lacks-rights",
    )
    assert "lacks the verb create" in answer.json()["detail"] and "serviceaccount" not in answer.text


async def test_a_database_that_goes_away_is_a_503_until_it_is_back(postgres: Server) -> None:
    async with running(with_driver(postgres.remembered()), FakeCluster()) as api:
        headers = await api.coordinator("uid")
        sent = await api.client.post(TELEMETRY, json=batch("uid", [row(1)]), headers=headers)
        assert sent.status_code == 200
        with postgres.away():
            for path in ("/readyz", RUNS):
                answer = await api.client.get(path)
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "5"), answer.text
            refused = await api.client.post(TELEMETRY, json=batch("uid", [row(2)]), headers=headers)
            assert refused.json()["type"] == "urn:footplate:problem:database-unavailable"
            assert (await api.client.get("/healthz")).status_code == 200
            assert 'status="503"} 1.0' in (await api.client.get("/metrics")).text
        assert (await api.client.get("/readyz")).status_code == 200
        again = await api.client.post(TELEMETRY, json=batch("uid", [row(2)]), headers=headers)
        assert again.status_code == 200


async def test_the_openapi_document_describes_every_route(api: Api) -> None:
    document = (await api.client.get("/openapi.json")).json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert all(
        operation["summary"] and operation["description"] and operation["tags"] for operation in operations
    )
    assert "/v1/namespaces/{namespace}/runs/{name}/telemetry" in document["paths"]
    assert document["components"]["schemas"]["RunSubmission"]["examples"]
    assert (await api.client.get("/docs")).status_code == 200
