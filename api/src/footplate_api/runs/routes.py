"""REST of runs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response, status

from footplate_api import bodies
from footplate_api.edge import Contextual, Reading, RunBody
from footplate_api.errors import (
    ClusterRefused,
    ClusterUnavailable,
    DatabaseFull,
    DatabaseUnavailable,
    InstallationLacksRights,
    RunNotFound,
)
from footplate_api.identity.rights import may
from footplate_api.openapi import leads_to, raises
from footplate_api.runs import service
from footplate_api.runs.schemas import RunDetail, RunList, RunQuery, RunSubmission
from footplate_api.schemas import FormerNamespaces, Namespace, RunName, Uid


async def _submission(body: RunBody) -> RunSubmission:
    return await bodies.parsed(body, service.submission)


Submitted = Annotated[RunSubmission, Depends(_submission)]

router = APIRouter(prefix="/v1/namespaces/{namespace}/runs", tags=["runs"])

_KUBERNETES = (ClusterRefused, ClusterUnavailable, InstallationLacksRights)
_OF_A_RUN = ("get_run", "delete_run", "read_metrics", "list_checkpoints", "list_attempts")


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    summary="Create a run",
    dependencies=[may("create")],
    openapi_extra=bodies.described(RunSubmission),
    responses=raises(*_KUBERNETES, DatabaseUnavailable, DatabaseFull) | leads_to(201, "", *_OF_A_RUN),
)
async def create_run(namespace: Namespace, submission: Submitted, context: Contextual) -> RunDetail:
    """Creates a TrainingRun in Kubernetes, under strict validation.

    A refusal of the Kubernetes API server keeps its status (403, 409, 422 …) and message, save one
    of this API's own account (502).
    """
    return await service.submit(context.cluster, context.database, namespace, submission, context.now)


@router.get(
    "",
    summary="List runs, newest first",
    dependencies=[may("list")],
    responses=raises(DatabaseUnavailable) | leads_to(200, "/items/0", *_OF_A_RUN),
)
async def list_runs(namespace: Namespace, query: Annotated[RunQuery, Query()], session: Reading) -> RunList:
    """A page of the runs of a namespace; follow `nextCursor` for the next one."""
    return await service.list_runs(session, namespace, query)


@router.get(
    "/{name}",
    summary="Get a run",
    dependencies=[may("get", named=True)],
    responses=raises(RunNotFound, DatabaseUnavailable),
)
async def get_run(
    namespace: Namespace,
    name: RunName,
    session: Reading,
    uid: Uid | None = None,
    former_namespaces: Annotated[FormerNamespaces, Query(alias="formerNamespaces")] = False,
) -> RunDetail:
    """The live run of this name, else the newest deleted one; `uid` picks a certain one."""
    return await service.detail(session, namespace, name, uid, former_namespaces)


@router.delete(
    "/{name}",
    status_code=status.HTTP_202_ACCEPTED,
    response_class=Response,
    summary="Delete a run",
    dependencies=[may("delete", named=True)],
    responses=raises(*_KUBERNETES),
)
async def delete_run(
    namespace: Namespace, name: RunName, context: Contextual, uid: Uid | None = None
) -> None:
    """Deletes the TrainingRun in Kubernetes; its history stays here.

    With `uid`, a younger run of the same name is left alone (409).
    """
    await context.cluster.delete_run(namespace, name, uid)
