"""REST endpoint of lineage."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from footplate_api.dependencies import Reading
from footplate_api.errors import DatabaseUnavailable, RunNotFound
from footplate_api.http.openapi import ROUTER, raises
from footplate_api.identity.rights import require_right
from footplate_api.lineage import service
from footplate_api.lineage.schemas import LineageQuery, RunLineage
from footplate_api.serialization.schemas import Namespace, RunName

router = APIRouter(prefix="/v1/namespaces/{namespace}/runs/{name}", tags=["runs"], **ROUTER)


@router.get(
    "/lineage",
    summary="Ancestors and descendants of a run",
    dependencies=[require_right("list")],
    responses=raises(RunNotFound, DatabaseUnavailable),
)
async def read_lineage(
    namespace: Namespace, name: RunName, query: Annotated[LineageQuery, Query()], session: Reading
) -> RunLineage:
    """Return the ancestors and descendants of a run, all of its namespace.

    Ancestors are the runs that provided weights, references, rewards or data, directly or through other runs;
    descendants are the runs to which this run provided any of these in the same way.
    """
    return await service.read_lineage(session, namespace, name, query)
