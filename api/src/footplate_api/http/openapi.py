"""Errors and links in the OpenAPI document; pure.

A route names the classes of errors that it raises (`raises`) and the operations that its response links to
(`leads_to`). The errors of the router and the error handlers follow from the shape of an operation
(`complete`): the document has every status that can occur, and no `default` that would hide a forgotten one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any, Final

from footplate_api.errors import (
    ApiError,
    ClusterUnavailable,
    Forbidden,
    HttpError,
    InstallationLacksRights,
    Invalid,
    IssuerUnavailable,
    Starting,
    TooManyRequests,
    TooManyTokens,
    Unauthenticated,
)
from footplate_api.http.problems import MEDIA_TYPE, Problem, problem_type
from footplate_api.http.public_paths import DOCUMENTS, OPEN, SCRAPED
from footplate_api.http.staleness import HEADER as STALE
from footplate_api.http.startup import SERVED

Responses = dict[int | str, dict[str, Any]]
"""Status -> Response Object, as FastAPI takes them."""

ROUTER: Final[dict[str, Any]] = {"generate_unique_id_function": attrgetter("name")}
"""Of each router: an operation is called as its function is."""

_SCHEMAS: Final = "#/components/schemas/"
_PROBLEM: Final = f"{_SCHEMAS}Problem"
_RETRY_AFTER: Final = {"description": "seconds to wait", "schema": {"type": "integer", "minimum": 0}}
_ALLOW: Final = {"description": "allowed methods of the path", "schema": {"type": "string"}}
_BEARER: Final = "bearer"
_SCHEME: Final = {
    "type": "http",
    "scheme": "bearer",
    "description": "token of Kubernetes for an audience of this API, or of the configured OIDC issuer",
}
_SINCE: Final = {
    "description": "time of the last news from Kubernetes; absent while the API follows its changes",
    "schema": {"type": "string", "examples": ["2026-01-31T12:00:00+00:00", "unknown"]},
}
# FastAPI's own answer to what is invalid: ours has another form.
_REPLACED: Final = ("HTTPValidationError", "ValidationError")


def raises(*errors: type[ApiError]) -> Responses:
    """Return the `responses` of a route that raises these errors."""
    found: Responses = {}
    for error in errors:
        for status in error.all_statuses():
            _add(found.setdefault(status, {}), error, status)
    return found


def leads_to(status: int, at: str, *operations: str, also: Mapping[str, str] | None = None) -> Responses:
    """Return `responses` with links from the run at JSON pointer `at`, in `status` answers, to `operations`.

    `also` are further parameters by name, as runtime expressions.
    """
    parameters = {
        "namespace": "$request.path.namespace",
        "name": f"$response.body#{at}/name",
        **(also or {}),
    }
    return {
        status: {
            "links": {name: {"operationId": name, "parameters": dict(parameters)} for name in operations}
        }
    }


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Add the errors of the router and the error handlers, and the schema of problems; return `document`."""
    for name, path in document["paths"].items():
        for verb, operation in path.items():
            responses = operation["responses"]
            if "application/json" in responses.get("422", {}).get("content", {}):
                del responses["422"]
            for status, error in _of_the_edge(name, operation):
                _add(responses.setdefault(str(status), {}), error, status)
            operation["responses"] = dict(sorted(responses.items()))
            if verb == "get" and name.startswith("/v1/"):
                responses["200"].setdefault("headers", {})[STALE] = _SINCE
            operation["security"] = [] if name in OPEN else [{_BEARER: []}]
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in _REPLACED:
        schemas.pop(name, None)
    problem = Problem.model_json_schema(ref_template=f"{_SCHEMAS}{{model}}")
    document["components"]["securitySchemes"] = {_BEARER: _SCHEME}
    document["components"]["schemas"] = {**schemas, **problem.pop("$defs"), "Problem": problem}
    return document


def _of_the_edge(path: str, operation: Mapping[str, Any]) -> Iterator[tuple[int, type[ApiError]]]:
    """Yield the errors that the router and the middleware raise for an operation of this shape."""
    yield 500, ApiError
    if path not in OPEN:
        yield 401, Unauthenticated
        yield 502, InstallationLacksRights
        yield 503, ClusterUnavailable
        yield 503, TooManyTokens
        yield 503, IssuerUnavailable
    if path not in OPEN and path not in DOCUMENTS:
        yield 403, Forbidden
    if path not in OPEN and path != SCRAPED:
        yield 429, TooManyRequests
    if path not in SERVED:
        yield 503, Starting
    parameters, body = operation.get("parameters", ()), "requestBody" in operation
    if path.startswith("/v1/"):  # also where nothing can be asked: what is asked all the same
        yield 422, Invalid
    if any(parameter["in"] == "path" for parameter in parameters):  # a slash in it leads elsewhere
        yield 404, HttpError
        yield 405, HttpError
    if body:
        yield 408, HttpError
        yield 413, HttpError


def _add(response: dict[str, Any], error: type[ApiError], status: int) -> None:
    """Add the problem of class `error` to `response`."""
    said = f"{error.title}: {(error.__doc__ or '').partition(chr(10))[0]}"
    if "content" not in response:
        kinds = {"type": {"enum": []}, "status": {"type": "integer", "enum": [status]}}
        schema = {"allOf": [{"$ref": _PROBLEM}, {"type": "object", "properties": kinds}]}
        response |= {"description": said, "content": {MEDIA_TYPE: {"schema": schema}}}
    known = response["content"][MEDIA_TYPE]["schema"]["allOf"][1]["properties"]["type"]["enum"]
    if problem_type(error) in known:
        return
    if known:
        response["description"] += f"\n\n{said}"
    known.append(problem_type(error))
    headers = {
        **({"Retry-After": _RETRY_AFTER} if error.retry_after is not None else {}),
        **({"Allow": _ALLOW} if status == 405 else {}),
        **{name: {"schema": {"type": "string"}} for name in error.headers},
    }
    if headers:
        response["headers"] = {**response.get("headers", {}), **headers}
