"""Operations on runs: Kubernetes has the current state, the database the history."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from footplate_api.attempts import record as attempt_record
from footplate_api.attempts import repository as attempts
from footplate_api.coordinators import record as coordinator_record
from footplate_api.coordinators import repository as coordinators
from footplate_api.creation import idempotency_keys
from footplate_api.creation.idempotency import HEADER, IdempotentRequest, is_created_by, with_annotation
from footplate_api.db.database import Database, ReadSession, WriteSession
from footplate_api.errors import ClusterRefused, FieldError, InstallationLacksRights, Invalid
from footplate_api.http import json_models
from footplate_api.identity.authorization import Authorization
from footplate_api.identity.caller import LIST_EVERYWHERE, PROFILES, Caller, Right
from footplate_api.installation import repository as installation
from footplate_api.kubernetes.client import KubernetesClient, KubernetesWriter, Manifest
from footplate_api.labels.run_labels import ASKED_UNDER
from footplate_api.models.base import table_of
from footplate_api.models.run import RunRow
from footplate_api.registry import lookup, repository, run_rows
from footplate_api.runs import estimate, json_values, list_queries, pagination
from footplate_api.runs.list_queries import NamespaceFilter
from footplate_api.runs.schemas import (
    HourlyEstimate,
    RunDetail,
    RunList,
    RunPreview,
    RunQuery,
    RunSubmission,
    RunSummary,
)
from footplate_api.runs.sort_order import CursorPosition, order
from footplate_api.serialization import tolerant_json
from footplate_api.tariff.service import TariffReader
from footplate_contracts.names import REQUESTED_BY_ANNOTATION
from footplate_ledger.intervals import unix_second

CONFLICT: Final = 409
_OWN_ANNOTATIONS: Final = {
    REQUESTED_BY_ANNOTATION: "the name of the caller",
    ASKED_UNDER: "the idempotency key of the request",
}


def submission(body: bytes) -> RunSubmission:
    """Parse the manifest in `body`; raises Invalid if it is none, or cannot be sent."""
    read = json_models.parse_model(RunSubmission, body)
    json_values.check_json("body.metadata", read.metadata)
    json_values.check_json("body.spec", read.spec)
    _check_unsigned(read.metadata)
    return read


def _check_unsigned(metadata: dict[str, Any]) -> None:
    annotations = tolerant_json.mapping(metadata, "annotations")
    for name, what in _OWN_ANNOTATIONS.items():
        if name in annotations:
            message = f"must be absent: this API writes {what} there"
            raise Invalid.field(f"body.metadata.annotations.{name}", annotations[name], message)


def manifest(namespace: str, submission: RunSubmission) -> dict[str, Any]:
    """Return the object to create in `namespace`; raises Invalid if the submission names another one."""
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
    writer: KubernetesWriter, database: Database, manifest: Manifest, now: Callable[[], datetime]
) -> str:
    """Create the run and store it at once, for its creator to read back; return its RunDetail as JSON."""
    created = await writer.create_run(manifest["metadata"]["namespace"], manifest)
    async with database.write() as session:
        return await _note(session, created, now())


async def submit_once(
    writer: KubernetesWriter,
    database: Database,
    manifest: Manifest,
    asking: IdempotentRequest,
    now: Callable[[], datetime],
) -> str:
    """Submit once; a request that is sent again gets the first response.

    Raises Invalid where the key was used for another request.
    """
    async with database.write() as session:
        known = await idempotency_keys.reserve(session, asking, now())
        if known.request != asking.request:
            message = "must differ from the key of a request for another run within the last 24 hours"
            raise Invalid(f"header.{HEADER}: {message}", [FieldError(f"header.{HEADER}", None, message)])
        if known.answer is not None:
            return known.answer
        reserved_at = known.created_at
        seen = await idempotency_keys.find_run(session, asking, reserved_at)
        if seen is not None:  # its first attempt was killed after Kubernetes had answered
            shown = await _shown(session, seen)
            return await idempotency_keys.store_answer(session, asking, shown.model_dump_json(by_alias=True))
    created = await _create_once(writer, database, manifest, asking, reserved_at)
    async with database.write() as session:
        return await idempotency_keys.store_answer(session, asking, await _note(session, created, now()))


async def _create_once(
    writer: KubernetesWriter,
    database: Database,
    manifest: Manifest,
    asking: IdempotentRequest,
    reserved_at: datetime,
) -> Manifest:
    to_create = with_annotation(manifest, asking, reserved_at)
    try:
        return await writer.create_run(asking.namespace, to_create)
    except (ClusterRefused, InstallationLacksRights) as error:
        if error.status == CONFLICT and "name" in to_create["metadata"]:
            with suppress(ClusterRefused):
                standing = await writer.get_run(asking.namespace, to_create["metadata"]["name"])
                if is_created_by(standing, asking, reserved_at):  # another attempt, before or beside this one
                    return standing
        async with database.write() as session:
            await idempotency_keys.release(session, asking)
        raise


async def _note(session: WriteSession, created: Manifest, now: datetime) -> str:
    row = run_rows.row(created, now)
    # Of a later version than a list that was read meanwhile and lacks it: so not deleted.
    await installation.advance(session, row["resource_version"])
    [stored] = await repository.store_runs(session, [row])
    # One that was found standing has begun, and of a version that is stored no list is read anew.
    await attempts.store_attempts(session, attempt_record.rows([created]))
    await coordinators.store_coordinators(session, coordinator_record.coordinators_of([created]))
    return RunDetail.model_validate(stored).model_dump_json(by_alias=True)


async def preview(
    cluster: KubernetesClient,
    authorization: Authorization,
    caller: Caller,
    manifest: Manifest,
    tariffs: TariffReader,
    now: datetime,
) -> RunPreview:
    """Return the run as a dry run of Kubernetes shows it, with an estimate of its hourly cost.

    The estimate is only for a `caller` who may read the profile: this API reads it with its own account.
    """
    made = await cluster.try_run(manifest["metadata"]["namespace"], manifest)
    metadata, spec = made["metadata"], tolerant_json.mapping(made, "spec")
    named = tolerant_json.text(tolerant_json.mapping(spec, "compute"), "profile", 253)
    told = named and await authorization.is_allowed(caller, Right("get", PROFILES, name=named))
    profile = await cluster.get_profile(named) if named and told else None
    count = estimate.node_count(spec)
    cost = estimate.HourlyCost()
    if named and profile is not None:
        tariff, places = await tariffs.read(), await tariffs.node_locations(named)
        about = tolerant_json.mapping(profile, "spec")
        cost = estimate.estimate_hourly(named, about, count, tariff, places, unix_second(now))
    return RunPreview(
        namespace=metadata["namespace"],
        name=metadata.get("name") or metadata["generateName"],
        labels=tolerant_json.mapping(metadata, "labels"),
        annotations=tolerant_json.mapping(metadata, "annotations"),
        spec=spec,
        hourly=HourlyEstimate(nodes=count, **asdict(cost)),
    )


async def find_visible(authorization: Authorization, caller: Caller, database: Database) -> NamespaceFilter:
    """Return a filter for the namespaces with runs that `caller` may list."""
    if await authorization.is_allowed(caller, LIST_EVERYWHERE):
        return NamespaceFilter()
    async with database.read(quick=True) as session:
        known = await list_queries.namespaces_with_runs(session)
    return NamespaceFilter(among=await authorization.listable_namespaces(caller, known))


async def list_runs(session: ReadSession, within: NamespaceFilter, query: RunQuery) -> RunList:
    """Return a page of the runs within these bounds."""
    identity = f"{within.namespace or '*'} {query.filters_json()}"
    after = None if query.cursor is None else pagination.decode(query.cursor, identity, query.sort)
    rows = await list_queries.page(session, within, query, after)
    # By the columns' names alone: asked for in camelCase first, a page would take half as long again.
    items = [RunSummary.model_validate(row, by_alias=False, by_name=True) for row in rows[: query.limit]]
    if len(rows) <= query.limit:
        return RunList(items=items, next_cursor=None)
    last = CursorPosition(tuple(getattr(items[-1], name) for name in order(query.sort).columns))
    return RunList(items=items, next_cursor=pagination.encode(last, identity))


async def detail(
    session: ReadSession, namespace: str, name: str, uid: str | None, former_namespaces: bool
) -> RunDetail:
    """Return all of a run, with its spec, labels and annotations; raises RunNotFound."""
    return await _shown(session, await lookup.find(session, namespace, name, uid, former_namespaces))


async def _shown(session: ReadSession, run: RunRow) -> RunDetail:
    columns = {column.key: getattr(run, column.key) for column in table_of(RunRow).columns}
    asked = await repository.spec_of(session, run.uid)
    more = {"labels": asked.labels, "annotations": asked.annotations, "spec": asked.spec}
    return RunDetail.model_validate(columns | more, by_alias=False, by_name=True)
