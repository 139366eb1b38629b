"""The OpenAPI document says what can be answered: every status, every class of error, and no more."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import pytest
import pytest_asyncio

from footplate_api.errors import ApiError
from footplate_api.http.problems import problem_type
from footplate_api.runs import manifest_schemas
from footplate_api.runs.schemas import EXAMPLE
from tests.component.footplate_api.builders import RUNS
from tests.component.footplate_api.conftest import Api
from tests.support.chart import objects_in

pytestmark = pytest.mark.any_database

CRD: Final = Path(__file__).parents[3] / "crds" / "trainingruns.footplate.dev.yaml"
ROUTER: Final = {404, 405}
SCRAPE: Final = {401, 403, 502, 503}
IDENTITY: Final = SCRAPE | {429}
BODY: Final = {408, 413}
KUBERNETES: Final = {400, 403, 404, 409, 413, 422, 502, 503}
STATUSES: Final = {
    "create_run": {200, 201} | IDENTITY | KUBERNETES | ROUTER | BODY,
    "list_runs": {200, 304, 422} | IDENTITY | ROUTER,
    "list_all_runs": {200, 304, 422} | IDENTITY,
    "get_run": {200, 304, 422} | IDENTITY | ROUTER,
    "delete_run": {202} | IDENTITY | KUBERNETES | ROUTER,
    "ingest_telemetry": {200, 409, 422} | IDENTITY | ROUTER | BODY,
    "read_metrics": {200, 422} | IDENTITY | ROUTER,
    "read_lineage": {200, 422} | IDENTITY | ROUTER,
    "list_samples": {200, 422} | IDENTITY | ROUTER,
    "list_checkpoints": {200, 422} | IDENTITY | ROUTER,
    "list_attempts": {200, 422} | IDENTITY | ROUTER,
    "read_run_cost": {200, 422} | IDENTITY | ROUTER,
    "list_costs": {200, 422} | IDENTITY,
    "create_price": {200, 201} | IDENTITY | KUBERNETES | BODY,
    "list_prices": {200, 422} | IDENTITY,
    "list_profiles": {200, 422} | IDENTITY,
    "get_profile": {200, 422} | IDENTITY | ROUTER,
    "list_audit": {200, 422} | IDENTITY,
    "healthz": {200},
    "readyz": {200, 503},
    "version": {200},
    "metrics": {200} | SCRAPE,
}


@pytest_asyncio.fixture
async def operations(api: Api) -> dict[str, dict[str, Any]]:
    """Operations by their ids."""
    document = (await api.client.get("/openapi.json")).json()
    found = [operation for path in document["paths"].values() for operation in path.values()]
    return {operation["operationId"]: operation for operation in found}


async def test_each_operation_lists_every_status_that_it_has(operations: dict[str, Any]) -> None:
    listed = {name: {int(status) for status in found["responses"]} for name, found in operations.items()}
    assert listed == {name: statuses | {500} for name, statuses in STATUSES.items()}


async def test_what_is_asked_with_a_parameter_that_is_not_told_is_refused(api: Api) -> None:
    """A misspelt filter would be an answer that is not filtered."""
    paths = (await api.client.get("/openapi.json")).json()["paths"]
    asked = [(verb, path) for path, verbs in paths.items() for verb in verbs if path.startswith("/v1")]
    for verb, path in asked:
        if verb != "post":
            answer = await api.client.request(
                verb.upper(), path.format(namespace="research", name="gpt"), params={"colour": "red"}
            )
            assert answer.status_code == 422 and "query.colour" in answer.text, (verb, path)
    assert {verb for verb, _ in asked} == {"get", "post", "delete"}


def kinds(error: type[ApiError]) -> list[type[ApiError]]:
    """A class of errors and all below it."""
    return [error, *(below for child in error.__subclasses__() for below in kinds(child))]


async def test_each_error_is_a_problem_that_names_its_kinds(operations: dict[str, Any]) -> None:
    named: set[str] = set()
    for operation in operations.values():
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                [(media_type, content)] = response["content"].items()
                assert media_type == "application/problem+json"
                base, narrowed = content["schema"]["allOf"]
                assert base == {"$ref": "#/components/schemas/Problem"}
                assert narrowed["properties"]["status"] == {"type": "integer", "enum": [int(status)]}
                assert response["description"]
                named |= set(narrowed["properties"]["type"]["enum"])
    assert named == {problem_type(error) for error in kinds(ApiError)}
    page = (CRD.parents[1] / "docs" / "api.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \| [^|]+ \| ([^|]+) \|$", page, re.MULTILINE)
    assert {(f"urn:footplate:problem:{name}", meaning) for name, meaning in rows} == {
        (problem_type(error), (error.__doc__ or "").partition("\n")[0]) for error in kinds(ApiError)
    }


async def test_who_has_to_wait_is_told_for_how_long(operations: dict[str, Any]) -> None:
    unavailable = [found["responses"]["503"] for found in operations.values() if "503" in found["responses"]]
    assert all("Retry-After" in response["headers"] for response in unavailable)


async def test_links_lead_to_operations_and_their_parameters(operations: dict[str, Any]) -> None:
    links = {
        name: response["links"]
        for name, operation in operations.items()
        for response in operation["responses"].values()
        if "links" in response
    }
    assert set(links) == {"create_run", "list_runs", "list_all_runs"}
    for link in (link for found in links.values() for link in found.values()):
        target = operations[link["operationId"]]
        assert set(link["parameters"]) <= {parameter["name"] for parameter in target["parameters"]}


async def test_who_follows_the_links_of_a_run_finds_what_is_known_of_it(
    api: Api, operations: dict[str, Any]
) -> None:
    created = await api.client.post(RUNS, json={"metadata": {"name": "gpt"}, "spec": {}})
    listed = await api.client.get(RUNS)
    paths = {
        operation["operationId"]: (verb, path)
        for path, verbs in (await api.client.get("/openapi.json")).json()["paths"].items()
        for verb, operation in verbs.items()
    }
    everywhere = await api.client.get("/v1/runs")
    for answer, name, status in (
        (created, "create_run", "201"),
        (listed, "list_runs", "200"),
        (everywhere, "list_all_runs", "200"),
    ):
        links = operations[name]["responses"][status]["links"]
        for link in sorted(links.values(), key=lambda link: link["operationId"] == "delete_run"):
            values = {
                parameter: "research" if said == "$request.path.namespace" else pointed(answer.json(), said)
                for parameter, said in link["parameters"].items()
            }
            verb, path = paths[link["operationId"]]
            followed = await api.client.request(verb.upper(), path.format(**values))
            # The run of all answers is deleted by the first of them.
            expected = {200, 202} if name == "create_run" or verb == "get" else {404}
            assert followed.status_code in expected, followed.text


def pointed(body: Any, expression: str) -> Any:
    """What `$response.body#/a/0/b` stands for."""
    for part in expression.removeprefix("$response.body#/").split("/"):
        body = body[int(part)] if isinstance(body, list) else body[part]
    return body


async def test_prometheus_metrics_are_described_as_what_they_are(
    api: Api, operations: dict[str, Any]
) -> None:
    [described] = operations["metrics"]["responses"]["200"]["content"]
    answered = (await api.client.get("/metrics")).headers["content-type"]
    assert answered.partition(";")[0] == described == "text/plain"


async def test_fastapis_own_errors_are_nowhere(api: Api) -> None:
    document = (await api.client.get("/openapi.json")).json()
    assert "ValidationError" not in json.dumps(document)
    assert {"Problem", "ProblemField"} <= set(document["components"]["schemas"])


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        pytest.param("PUT", RUNS, "GET, POST", id="two-routes-of-one-path"),
        pytest.param("PATCH", f"{RUNS}/gpt", "GET, DELETE", id="a-run"),
        pytest.param("GET", f"{RUNS}/gpt/telemetry", "POST", id="telemetry"),
        pytest.param("POST", "/healthz", "GET", id="a-probe"),
        pytest.param("POST", "/v1/runs", "GET", id="all-runs"),
        pytest.param("HEAD", RUNS, "GET, POST", id="no-head"),
        pytest.param("OPTIONS", f"{RUNS}/gpt", "GET, DELETE", id="no-options"),
    ],
)
async def test_a_method_that_is_not_there_is_told_which_are(
    api: Api, method: str, path: str, allowed: str
) -> None:
    answer = await api.client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("path", [f"{RUNS}/", "/healthz/", "/docs/"])
async def test_nobody_is_sent_elsewhere_without_being_told(api: Api, path: str) -> None:
    assert (await api.client.get(path)).status_code == 404


async def test_the_body_of_a_run_is_what_kubernetes_takes(api: Api) -> None:
    schemas = (await api.client.get("/openapi.json")).json()["components"]["schemas"]
    referred = schemas["RunSubmission"]["properties"]
    assert referred["spec"] == {"$ref": "#/components/schemas/TrainingRunSpec"}
    assert referred["metadata"] == {"$ref": "#/components/schemas/TrainingRunMetadata"}
    spec = schemas["TrainingRunSpec"]
    check = jsonschema_rs.validator_for(spec)
    assert check.is_valid(EXAMPLE["spec"])
    for wrong in ({"stage": "dream"}, {"sepc": 1}, {"compute": {"profile": "a", "nodes": 0}}):
        assert not check.is_valid({**EXAMPLE["spec"], **wrong})


def test_the_schema_of_a_spec_has_all_fields_and_bounds_of_the_crd() -> None:
    [crd] = objects_in(CRD.read_text())
    root = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    ours = dict(leaves(manifest_schemas.spec()))
    assert {
        path: value for path, value in leaves(root["properties"]["spec"]) if "x-kubernetes" not in path
    } == {path: value for path, value in ours.items() if not path.endswith(".additionalProperties=false")}


def leaves(schema: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in a schema under its path."""
    if isinstance(schema, dict):
        for key, member in schema.items():
            yield from leaves(member, f"{path}.{key}")
    elif path.endswith(".additionalProperties") and schema is False:
        yield f"{path}=false", schema
    else:
        yield path, schema


async def test_the_document_is_put_together_once_and_tagged(api: Api) -> None:
    first, second = [await api.client.get("/openapi.json") for _ in range(2)]
    assert first.content == second.content
    again = await api.client.get("/openapi.json", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
