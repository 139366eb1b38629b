"""REST endpoint of metric histories."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Response

from footplate_api.dependencies import of_state
from footplate_api.errors import DatabaseUnavailable, HistoriesBusy, RunNotFound
from footplate_api.http.openapi import ROUTER, Responses, raises
from footplate_api.identity.rights import Calling, require_right
from footplate_api.metrics.schemas import MetricHistory, MetricQuery
from footplate_api.metrics.service import HistoryService
from footplate_api.serialization.schemas import Namespace, RunName

router = APIRouter(prefix="/v1/namespaces/{namespace}/runs/{name}", tags=["metrics"], **ROUTER)


# Put together off the event loop, so that FastAPI does not know its form.
_HISTORY: Final[Responses] = {200: {"model": MetricHistory, "description": "Columns of equal length"}}


@router.get(
    "/metrics",
    response_class=Response,
    summary="Metric history of a run",
    dependencies=[require_right("get", named=True)],
    responses=raises(RunNotFound, DatabaseUnavailable, HistoriesBusy) | _HISTORY,
)
async def read_metrics(
    namespace: Namespace,
    name: RunName,
    query: Annotated[MetricQuery, Query()],
    histories: Annotated[HistoryService, Depends(of_state("histories", HistoryService))],
    caller: Calling,
) -> Response:
    """Return the rows of the weights that exist, as columns of equal length.

    A row counts only if no row of an earlier or the same step has a newer generation; `superseded=true`
    returns the others. Long histories are thinned to `limit` rows unless `every` is set. If the rows have
    more than 1,500,000 cells in all columns together, the last of them are left to the next page
    (`nextCursor`).
    """
    found = await histories.read(namespace, name, query, caller.username)
    return Response(found, media_type="application/json")
