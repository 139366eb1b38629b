"""REST routes of samples."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from footplate_api.dependencies import Reading
from footplate_api.errors import DatabaseUnavailable, RunNotFound
from footplate_api.http.openapi import ROUTER, raises
from footplate_api.identity.rights import require_right
from footplate_api.samples import service
from footplate_api.samples.schemas import SampleList, SampleQuery
from footplate_api.serialization.schemas import Namespace, RunName

router = APIRouter(prefix="/v1/namespaces/{namespace}/runs/{name}", tags=["metrics"], **ROUTER)


@router.get(
    "/samples",
    summary="Samples of a run's steps, newest step first",
    dependencies=[require_right("get", named=True)],
    responses=raises(RunNotFound, DatabaseUnavailable),
)
async def list_samples(
    namespace: Namespace, name: RunName, query: Annotated[SampleQuery, Query()], session: Reading
) -> SampleList:
    """List a few prompts and answers of each step that has samples, with their rewards.

    For a step that was trained again, the samples are those of the weights that exist. A long run does not
    retain the samples of every step.
    """
    return await service.list_samples(session, namespace, name, query)
