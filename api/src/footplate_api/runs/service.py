"""What can be done with runs. Kubernetes holds the truth, the database the history."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from footplate_api import reading
from footplate_api.database import Database, ReadSession
from footplate_api.errors import Invalid, RunNotFound
from footplate_api.installation import repository as installation
from footplate_api.models.run import Run
from footplate_api.ports import RunWriter
from footplate_api.runs import pagination, plain, record, repository
from footplate_api.runs.schemas import RunDetail, RunList, RunQuery, RunSubmission, RunSummary
from footplate_contracts.names import REQUESTED_BY_ANNOTATION


def submission(body: bytes) -> RunSubmission:
    """The manifest in `body`; raises Invalid if it is none, or cannot be sent."""
    read = reading.model(RunSubmission, body)
    plain.check("body.metadata", read.metadata)
    plain.check("body.spec", read.spec)
    _check_unsigned(read.metadata)
    return read


def _check_unsigned(metadata: dict[str, Any]) -> None:
    annotations = metadata.get("annotations")
    if isinstance(annotations, dict) and REQUESTED_BY_ANNOTATION in annotations:
        raise Invalid.field(
            f"body.metadata.annotations.{REQUESTED_BY_ANNOTATION}",
            annotations[REQUESTED_BY_ANNOTATION],
            "must be absent: this API writes the name of its caller there",
        )


def manifest(namespace: str, submission: RunSubmission) -> dict[str, Any]:
    """The object to create in `namespace`; raises Invalid if it names another one."""
    given = submission.metadata.get("namespace", namespace)
    if given != namespace:
        raise Invalid.field(
            "body.metadata.namespace", given, f"must be absent or {namespace!r} as in the path"
        )
    return {
        "apiVersion": submission.api_version,
        "kind": submission.kind,
        "metadata": {**submission.metadata, "namespace": namespace},
        "spec": submission.spec,
    }


async def submit(
    cluster: RunWriter,
    database: Database,
    namespace: str,
    submission: RunSubmission,
    now: Callable[[], datetime],
) -> RunDetail:
    """Creates the run and notes it at once, so that its creator can read it back."""
    created = await cluster.create_run(namespace, manifest(namespace, submission))
    row = record.row(created, now())
    async with database.write() as session:
        # Of a later version than a list that was read meanwhile and lacks it: so not deleted.
        await installation.reach(session, row["resource_version"])
        [stored] = await repository.store(session, [row])
    return RunDetail.model_validate(stored)


async def list_runs(session: ReadSession, namespace: str, query: RunQuery) -> RunList:
    """A page of the namespace's runs, newest first."""
    after = None if query.cursor is None else pagination.decode(query.cursor)
    rows = await repository.page(session, namespace, query, after)
    items = [RunSummary.model_validate(row) for row in rows[: query.limit]]
    if len(rows) <= query.limit:
        return RunList(items=items, next_cursor=None)
    last = pagination.Position(items[-1].created_at, items[-1].uid)
    return RunList(items=items, next_cursor=pagination.encode(last))


async def detail(
    session: ReadSession, namespace: str, name: str, uid: str | None, former_namespaces: bool
) -> RunDetail:
    """All of a run, with what it was asked to be; raises RunNotFound."""
    run = await get(session, namespace, name, uid, former_namespaces)
    shown = RunDetail.model_validate(run)
    asked = None if run.spec else await repository.spec_of(session, run.uid)
    if asked is None:
        return shown
    return shown.model_copy(
        update={"labels": asked.labels, "annotations": asked.annotations, "spec": asked.spec}
    )


async def get(
    session: ReadSession, namespace: str, name: str, uid: str | None = None, former_namespaces: bool = False
) -> Run:
    """The run of this name, live or newest; raises RunNotFound."""
    run = await repository.find(session, namespace, name, uid, former_namespaces)
    if run is None:
        raise _not_found(namespace, name, uid)
    return run


async def uid_of(
    session: ReadSession, namespace: str, name: str, uid: str | None = None, former_namespaces: bool = False
) -> str:
    """The uid of the run that get() gives, for what is kept under it; raises RunNotFound."""
    found = await repository.find_uid(session, namespace, name, uid, former_namespaces)
    if found is None:
        raise _not_found(namespace, name, uid)
    return found


def _not_found(namespace: str, name: str, uid: str | None) -> RunNotFound:
    which = f" with uid {uid!r}" if uid else ""
    return RunNotFound(f"No TrainingRun {name!r}{which} was seen in namespace {namespace!r}.")
