"""REST endpoints of costs."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Response

from footplate_api.costs import csv_format, service
from footplate_api.costs.schemas import CostQuery, CostTable, RunCost, RunCostQuery
from footplate_api.costs.service import CostService
from footplate_api.dependencies import Contextual, of_state
from footplate_api.errors import CostsBusy, DatabaseUnavailable, RunNotFound
from footplate_api.http.openapi import ROUTER, Responses, raises
from footplate_api.identity.rights import SEES_ALL_COSTS, Authorizing, Calling, require_right
from footplate_api.serialization.schemas import Namespace, RunName
from footplate_ledger.intervals import unix_second

Costing = Annotated[CostService, Depends(of_state("costs", CostService))]
# OpenAPI has no parameter of this name: the media types of the answer say what may be asked for.
Accept = Annotated[str | None, Header(max_length=1024, include_in_schema=False)]
_CSV: Responses = {
    200: {
        "model": CostTable,
        "content": {csv_format.MEDIA_TYPE: {"schema": {"type": "string"}}},
        "description": "Costs by group and step, then adjustments",
    }
}

router = APIRouter(prefix="/v1", tags=["costs"], **ROUTER)


@router.get(
    "/namespaces/{namespace}/runs/{name}/cost",
    summary="Cost of a run",
    response_model=RunCost,
    dependencies=[require_right("get", named=True)],
    responses=raises(RunNotFound, DatabaseUnavailable, CostsBusy),
)
async def read_run_cost(
    namespace: Namespace,
    name: RunName,
    query: Annotated[RunCostQuery, Query()],
    context: Contextual,
    costs: Costing,
    caller: Calling,
) -> Response:
    """Return dollars, energy and carbon of a run, by attempt and, with `pods=true`, by pod.

    The numbers are those of the run's `status.cost`, computed from the stored usage: also for a run that
    was deleted from Kubernetes, or that was created and deleted while this API was down.
    """
    body = await costs.get_run_cost(namespace, name, query, unix_second(context.now()), caller.username)
    return Response(body, media_type="application/json")


@router.get(
    "/costs",
    summary="Costs of runs, by group and step",
    response_model=None,
    dependencies=[SEES_ALL_COSTS],
    responses=raises(DatabaseUnavailable, CostsBusy) | _CSV,
)
async def list_costs(
    query: Annotated[CostQuery, Query()],
    context: Contextual,
    costs: Costing,
    caller: Calling,
    authorization: Authorizing,
    accept: Accept = None,
) -> Response:
    """List the costs of the runs that the caller may list, in any namespace.

    With `idle=true&formerNamespaces=true` the rows add up to the cost of the nodes, to the nano-dollar
    before they are rounded.
    """
    asked = service.resolve_query(query, context.now())
    among = await service.visible_namespaces(authorization, caller, context.database)
    found = await costs.list_rows(asked, among, caller.username)
    if csv_format.prefers_csv(accept):
        table = await asyncio.to_thread(service.as_csv, asked, found)
        return Response(table, media_type=csv_format.MEDIA_TYPE, headers={"Vary": "Accept"})
    body = await asyncio.to_thread(service.as_json, asked, query, found)
    return Response(body, media_type="application/json", headers={"Vary": "Accept"})
