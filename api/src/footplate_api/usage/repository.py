"""Queries on the usage of pods and nodes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Table, and_, case, func, or_, select, true, tuple_

from footplate_api.db.bulk import insert_missing
from footplate_api.db.database import ReadSession, WriteSession
from footplate_api.models.base import Base, distinct_values, table_of, upsert
from footplate_api.models.run import RunLabel
from footplate_api.models.usage import NodeUsageRow, PodUsageRow
from footplate_api.serialization.schemas import LARGEST
from footplate_api.usage import usage_rows
from footplate_api.usage.usage_rows import UsageBatch
from footplate_ledger.intervals import Interval
from footplate_ledger.usage import RUNNING, NodeLifetime, PodAllocation

FIRST: Final = (-LARGEST, "")  # before the start and the uid of any pod
_POD, _NODE = table_of(PodUsageRow), table_of(NodeUsageRow)


async def get_stored(session: ReadSession, told: UsageBatch, lock: bool = False) -> UsageBatch:
    """Return the stored usage of these pods and nodes; with `lock`, lock the rows until the commit."""
    return UsageBatch(
        {row.uid: usage_rows.usage_of(row) for row in await _rows(session, PodUsageRow, told.pods, lock)},
        {
            row.uid: usage_rows.node_usage_of(row)
            for row in await _rows(session, NodeUsageRow, told.nodes, lock)
        },
    )


async def store_usage(session: WriteSession, told: UsageBatch) -> None:
    """Merge `told` with the stored usage.

    Another replica may store the same at once: the second one merges with what the first stored.
    """
    pods = sorted((usage_rows.pod_row(pod) for pod in told.pods.values()), key=_uid)
    nodes = sorted((usage_rows.node_row(node) for node in told.nodes.values()), key=_uid)
    await _insert(session, PodUsageRow, pods)
    await _insert(session, NodeUsageRow, nodes)
    news = told.changes_from(await get_stored(session, told, lock=True))
    await _replace(session, PodUsageRow, [usage_rows.pod_row(pod) for pod in news.pods.values()])
    await _replace(session, NodeUsageRow, [usage_rows.node_row(node) for node in news.nodes.values()])


def _uid(row: dict[str, Any]) -> str:
    return str(row["uid"])


async def _rows(session: ReadSession, model: type[Base], uids: Collection[str], lock: bool) -> Any:
    table = table_of(model)
    statement = select(table).where(table.c.uid.in_(uids)).order_by(table.c.uid)
    return (await session.execute(statement.with_for_update() if lock else statement)).all() if uids else ()


async def _insert(session: WriteSession, model: type[Base], rows: list[dict[str, Any]]) -> None:
    if rows:
        await insert_missing(session, table_of(model), tuple(rows[0]), [tuple(row.values()) for row in rows])


async def _replace(session: WriteSession, model: type[Base], rows: list[dict[str, Any]]) -> None:
    if rows:
        await session.execute(upsert(session, model, lambda new: true()), rows)


def _during(table: Table, span: Interval) -> ColumnElement[bool]:
    """Return the condition for rows whose pod or node runs, or may run, in some second of `span`."""
    return and_(table.c.start < span.end, or_(table.c.end_known == RUNNING, table.c.end_until > span.start))


async def count_pods_by_node(
    session: ReadSession, span: Interval, namespaces: Collection[str] | None = None
) -> Sequence[tuple[str, int]]:
    """Return (node, number of pods) in `span`; only nodes with pods of `namespaces` if given."""
    statement = select(_POD.c.node, func.count()).where(_during(_POD, span))
    if namespaces is not None:
        theirs = select(_POD.c.node).where(_POD.c.owner_namespace.in_(namespaces), _during(_POD, span))
        statement = statement.where(_POD.c.node.in_(theirs))
    found = await session.execute(statement.group_by(_POD.c.node).order_by(_POD.c.node))
    return [(row[0], row[1]) for row in found]


async def pods_on(session: ReadSession, nodes: Collection[str], span: Interval) -> Sequence[Any]:
    """Return node and usage of all pods that were on these nodes in `span`, node by node."""
    statement = select(_POD.c.node, _POD.c.usage).where(_POD.c.node.in_(nodes), _during(_POD, span))
    return (await session.execute(statement.order_by(_POD.c.node, _POD.c.start, _POD.c.uid))).all()


async def pods_beside(session: ReadSession, spans: Mapping[str, Interval]) -> Sequence[Any]:
    """Return rows as pods_on(), with a span for each node; for some dozens of nodes, each a condition."""
    there = or_(*(and_(_POD.c.node == node, _during(_POD, span)) for node, span in spans.items()))
    statement = select(_POD.c.node, _POD.c.usage).where(there)
    statement = statement.order_by(_POD.c.node, _POD.c.start, _POD.c.uid)
    return (await session.execute(statement)).all()


async def nodes_of(session: ReadSession, uids: Collection[str]) -> Mapping[str, NodeLifetime]:
    """Return the stored usage of these nodes, by uid."""
    rows = await session.execute(select(_NODE).where(_NODE.c.uid.in_(uids)))
    return {row.uid: usage_rows.node_usage_of(row) for row in rows}


async def nodes_during(
    session: ReadSession, span: Interval, after: str, limit: int
) -> Sequence[NodeLifetime]:
    """Return the nodes that ran in `span`, in the order of their uids, after one of them."""
    statement = select(_NODE).where(_during(_NODE, span), _NODE.c.uid > after)
    rows = await session.execute(statement.order_by(_NODE.c.uid).limit(limit))
    return [usage_rows.node_usage_of(row) for row in rows]


async def spans_of(session: ReadSession, owner: str, now: int) -> Mapping[str, Interval]:
    """Return node -> span from the first to the last second of a run's pods on it, as known at `now`."""
    until = case((or_(_POD.c.end_known == RUNNING, _POD.c.end_until > now), now), else_=_POD.c.end_until)
    there = select(_POD.c.node, func.min(_POD.c.start), func.max(until)).where(
        _POD.c.owner_uid == owner, _POD.c.start < until
    )
    rows = await session.execute(there.group_by(_POD.c.node))
    return {node: Interval(start, end) for node, start, end in rows}


async def count_of(session: ReadSession, owner: str) -> int:
    """Return how many pods a run has had."""
    statement = select(func.count()).select_from(_POD).where(_POD.c.owner_uid == owner)
    return await session.scalar(statement) or 0


async def pods_of(
    session: ReadSession, owner: str, after: tuple[int, str], limit: int
) -> Sequence[PodAllocation]:
    """Return the pods of a run in the order of their starts and uids, after one of them."""
    place = tuple_(_POD.c.start, _POD.c.uid)
    statement = select(_POD).where(_POD.c.owner_uid == owner, place > after)
    rows = await session.execute(statement.order_by(_POD.c.start, _POD.c.uid).limit(limit))
    return [usage_rows.usage_of(row) for row in rows]


async def running_pods(session: ReadSession, limit: int) -> tuple[Sequence[tuple[str, str, str, str]], int]:
    """Return (namespace, run, pod, role) of the youngest running pods, and the number of all."""
    there = _POD.c.end_known == RUNNING
    count = await session.scalar(select(func.count()).select_from(_POD).where(there)) or 0
    youngest = select(_POD).where(there).order_by(_POD.c.start.desc(), _POD.c.uid).limit(limit)
    pods = map(usage_rows.usage_of, await session.execute(youngest))
    return [(pod.owner.namespace, pod.owner.name, pod.name, pod.role) for pod in pods], count


async def namespaces(session: ReadSession) -> Sequence[str]:
    """Return all namespaces with usage, in order."""
    return (await session.scalars(distinct_values(_POD.c.owner_namespace))).all()


async def label_values(
    session: ReadSession, key: str, span: Interval, after: str, limit: int
) -> Sequence[tuple[str, str]]:
    """Return uid and value of runs with usage in `span` that have the label or property `key`."""
    using = select(_POD.c.owner_uid).where(_during(_POD, span))
    statement = select(RunLabel.run_uid, RunLabel.value).where(
        RunLabel.key == key, RunLabel.run_uid.in_(using)
    )
    found = await session.execute(
        statement.where(RunLabel.run_uid > after).order_by(RunLabel.run_uid).limit(limit)
    )
    return [(row[0], row[1]) for row in found]


async def running_nodes(session: ReadSession) -> Sequence[tuple[str, str, str, str, int]]:
    """Return (profile, capacity, provider, region, count) of the running nodes."""
    those = (_NODE.c.profile, _NODE.c.capacity, _NODE.c.provider, _NODE.c.region)
    statement = select(*those, func.count()).where(_NODE.c.end_known == RUNNING).group_by(*those)
    return [tuple(row) for row in await session.execute(statement.order_by(*those))]


async def find_owner(
    session: ReadSession, namespace: str, name: str, uid: str | None, since: int | None
) -> str | None:
    """Return the uid of the run of this name whose pod started last, no earlier than `since`."""
    statement = select(_POD.c.owner_uid).where(_POD.c.owner_namespace == namespace, _POD.c.owner_name == name)
    if uid is not None:
        statement = statement.where(_POD.c.owner_uid == uid)
    if since is not None:
        statement = statement.where(_POD.c.start >= since)
    found: str | None = await session.scalar(statement.order_by(_POD.c.start.desc()).limit(1))
    return found
