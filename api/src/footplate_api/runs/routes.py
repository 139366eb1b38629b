"""REST routes of runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response, status

from footplate_api.audit.dependencies import Writing
from footplate_api.creation import idempotency
from footplate_api.creation.parameters import Creating, idempotency_key
from footplate_api.dependencies import Contextual, Reading, RunBody
from footplate_api.errors import (
    ClusterRefused,
    ClusterUnavailable,
    DatabaseFull,
    DatabaseUnavailable,
    InstallationLacksRights,
    NamespaceNotServed,
    RunNotFound,
)
from footplate_api.http import bodies, conditional
from footplate_api.http.conditional import IfNoneMatch
from footplate_api.http.openapi import ROUTER, Responses, leads_to, raises
from footplate_api.identity.rights import LISTS_FORMER, Authorizing, Calling, require_right
from footplate_api.runs import service
from footplate_api.runs.list_queries import NamespaceFilter
from footplate_api.runs.schemas import (
    RunChoice,
    RunDetail,
    RunList,
    RunLookup,
    RunPreview,
    RunQuery,
    RunSubmission,
)
from footplate_api.serialization.schemas import Namespace, RunName
from footplate_api.tariff.dependencies import Pricing


async def _manifest(namespace: Namespace, body: RunBody) -> dict[str, Any]:
    return service.manifest(namespace, await bodies.parsed(body, service.submission))


async def _is_served(namespace: Namespace, context: Contextual) -> None:
    context.served.check(namespace)


async def _visible(authorization: Authorizing, caller: Calling, context: Contextual) -> NamespaceFilter:
    return await service.find_visible(authorization, caller, context.database)


def _pages(request: Request, caller: Calling) -> Callable[[NamespaceFilter, RunQuery], Awaitable[RunList]]:
    return partial(request.app.state.lists.page, caller.username)


Pages = Annotated[Callable[[NamespaceFilter, RunQuery], Awaitable[RunList]], Depends(_pages)]
Submitted = Annotated[dict[str, Any], Depends(_manifest)]
Visible = Annotated[NamespaceFilter, Depends(_visible)]
IdempotencyKey = Annotated[
    str | None,
    idempotency_key(
        "unique key of the request: a repeated request with it within 24 hours creates no second run and"
        " gets the first response"
    ),
]


async def _create(
    manifest: Submitted,
    context: Contextual,
    authorization: Authorizing,
    writer: Writing,
    tariffs: Pricing,
    options: Creating,
    key: IdempotencyKey = None,
) -> Response:
    if options.dry_run:
        preview = await service.preview(
            context.cluster,
            authorization,
            writer.caller,
            writer.with_requester(manifest),
            tariffs,
            context.now(),
        )
        return Response(preview.model_dump_json(by_alias=True), media_type="application/json")
    if key is None:
        created = await service.submit(writer, context.database, manifest, context.now)
    else:
        asking = idempotency.build_request(writer.username, key, manifest)
        created = await service.submit_once(writer, context.database, manifest, asking, context.now)
    return Response(created, status.HTTP_201_CREATED, media_type="application/json")


router = APIRouter(tags=["runs"], **ROUTER)

_SERVED = Depends(_is_served)
_OWN, _ALL = "/v1/namespaces/{namespace}/runs", "/v1/runs"
_KUBERNETES = (ClusterRefused, ClusterUnavailable, InstallationLacksRights)
_OF_A_RUN = (
    "get_run",
    "delete_run",
    "read_metrics",
    "list_checkpoints",
    "list_attempts",
    "read_lineage",
    "read_run_cost",
)
_ITS_NAMESPACE = {"namespace": "$response.body#/items/0/namespace"}
_PREVIEW: Responses = {200: {"model": RunPreview, "description": "Run as it would be created, for `dryRun`"}}


@router.post(
    _OWN,
    status_code=status.HTTP_201_CREATED,
    response_model=RunDetail,
    summary="Create a run",
    dependencies=[require_right("create"), _SERVED],
    openapi_extra=bodies.openapi_request_body(RunSubmission),
    responses=raises(*_KUBERNETES, NamespaceNotServed, DatabaseUnavailable, DatabaseFull)
    | leads_to(201, "", *_OF_A_RUN)
    | _PREVIEW,
)
async def create_run(answer: Annotated[Response, Depends(_create)]) -> Response:
    """Create a TrainingRun in Kubernetes, under strict validation.

    A refusal of the Kubernetes API server keeps its status (403, 409, 422 …) and message, save one
    of this API's own account (502).
    """
    return answer


@router.get(
    _OWN,
    response_model=RunList,
    summary="List runs of a namespace",
    dependencies=[require_right("list")],
    responses=conditional.with_etag_responses(
        raises(DatabaseUnavailable) | leads_to(200, "/items/0", *_OF_A_RUN)
    ),
)
async def list_runs(
    namespace: Namespace,
    query: Annotated[RunQuery, Query()],
    page: Pages,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """List a page of a namespace's runs, newest first by default; follow `nextCursor` for the next one."""
    return conditional.etag_response(await page(NamespaceFilter(namespace), query), if_none_match)


@router.get(
    _ALL,
    response_model=RunList,
    summary="List runs of all namespaces",
    dependencies=[LISTS_FORMER],
    responses=conditional.with_etag_responses(
        raises(DatabaseUnavailable) | leads_to(200, "/items/0", *_OF_A_RUN, also=_ITS_NAMESPACE)
    ),
)
async def list_all_runs(
    visible: Visible, query: Annotated[RunQuery, Query()], page: Pages, if_none_match: IfNoneMatch = None
) -> Response:
    """List a page of the runs in all namespaces whose runs the caller may list, newest first by default."""
    return conditional.etag_response(await page(visible, query), if_none_match)


@router.get(
    f"{_OWN}/{{name}}",
    response_model=RunDetail,
    summary="Get a run",
    dependencies=[require_right("get", named=True)],
    responses=conditional.with_etag_responses(raises(RunNotFound, DatabaseUnavailable)),
)
async def get_run(
    namespace: Namespace,
    name: RunName,
    query: Annotated[RunLookup, Query()],
    session: Reading,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return the live run of this name, else the newest deleted one; `uid` selects a run."""
    found = await service.detail(session, namespace, name, query.uid, query.former_namespaces)
    return conditional.etag_response(found, if_none_match)


@router.delete(
    f"{_OWN}/{{name}}",
    status_code=status.HTTP_202_ACCEPTED,
    response_class=Response,
    summary="Delete a run",
    dependencies=[require_right("delete", named=True), _SERVED],
    responses=raises(*_KUBERNETES, NamespaceNotServed, DatabaseUnavailable, DatabaseFull),
)
async def delete_run(
    namespace: Namespace, name: RunName, query: Annotated[RunChoice, Query()], writer: Writing
) -> None:
    """Delete the TrainingRun in Kubernetes; its history stays here.

    With `uid`, a newer run of the same name is not deleted (409).
    """
    await writer.delete_run(namespace, name, query.uid)
