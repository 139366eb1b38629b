"""Costs of usage, for callers with the right to see them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from pydantic.alias_generators import to_camel

from footplate_api.attempts import repository as attempts
from footplate_api.checkpoints import repository as checkpoints
from footplate_api.costs import aggregation, csv_format, grouping, rows, run_cost, steps
from footplate_api.costs.aggregation import TIMEOUT_SECONDS, KeyFunctions
from footplate_api.costs.grouping import Grouping
from footplate_api.costs.rows import CostKind, CostLine
from footplate_api.costs.run_cost import CostedRun, RunTimeline
from footplate_api.costs.schemas import CostQuery, CostRow, CostTable, RunCostQuery
from footplate_api.db.database import Database, ReadSession
from footplate_api.errors import CostsBusy, Invalid, RunNotFound
from footplate_api.http.concurrency_limit import ConcurrencyLimit, refusals
from footplate_api.identity.authorization import Authorization
from footplate_api.identity.caller import LIST_EVERYWHERE, Caller
from footplate_api.namespaces import repository as namespaces
from footplate_api.registry import lookup
from footplate_api.serialization import tolerant_json
from footplate_api.tariff.service import TariffReader
from footplate_api.usage import repository
from footplate_api.usage.repository import FIRST
from footplate_ledger.account import Tariff
from footplate_ledger.conversion import format_time
from footplate_ledger.cost_sums import CostAggregator, Found, Key
from footplate_ledger.intervals import Interval, unix_second
from footplate_ledger.prices import PriceBook
from footplate_ledger.usage import PodAllocation, Sku

LONGEST: Final = timedelta(days=3660)
MOST_PODS: Final = 10_000  # that an answer tells one by one
AT_ONCE: Final = 2  # requests: each takes a connection, memory and a thread for seconds
WAITING: Final = 16
OF_ONE_CALLER: Final = 2  # of these
WAIT_SECONDS: Final = 20.0  # for its turn
_REFUSAL: Final = refusals(
    CostsBusy,
    slow="Other cost queries take long; retry later.",
    full="{} cost queries wait already; retry later.",
)
_KEPT_AT_ONCE: Final = 5000
_PODS_AT_ONCE: Final = 500


@dataclass(frozen=True)
class ResolvedCostQuery:
    """A cost query with all defaults resolved."""

    window: Interval
    steps: list[Interval]
    grouping: Grouping
    idle: bool
    share_idle: bool
    former_namespaces: bool
    now: int


@dataclass
class CostService:
    """Reader of costs; one instance per process."""

    database: Database
    tariffs: TariffReader
    turns: ConcurrencyLimit = field(
        default_factory=lambda: ConcurrencyLimit(AT_ONCE, WAITING, WAIT_SECONDS, _REFUSAL, OF_ONE_CALLER)
    )
    most_pods: int = MOST_PODS
    pods_at_once: int = _PODS_AT_ONCE

    async def list_rows(
        self,
        asked: ResolvedCostQuery,
        among: Collection[str] | None,
        caller: str | None,
        begun: Callable[[], None] = lambda: None,
    ) -> list[CostLine]:
        """Return the rows of the namespaces `among`, or of all; raises CostsBusy, TooManyRequests.

        `begun` is called when the request leaves the queue.
        """
        async with self.turns.acquire(caller):
            begun()
            tariff = await self.tariffs.read()
            async with self.database.read(TIMEOUT_SECONDS) as session:
                aggregator = await self._aggregator(session, asked, among, tariff)
            return await asyncio.to_thread(
                rows.build_rows,
                aggregator.found,
                asked.window,
                asked.steps,
                tariff.book,
                asked.now,
                asked.share_idle,
            )

    async def get_run_cost(
        self, namespace: str, name: str, query: RunCostQuery, now: int, caller: str
    ) -> bytes:
        """Return a run's costs as JSON; raises RunNotFound, Invalid for too many pods, and as rows() does."""
        async with self.turns.acquire(caller):
            tariff = await self.tariffs.read()
            async with self.database.read(TIMEOUT_SECONDS) as session:
                made = await _made(session, namespace, name, query)
                pods = await self._pods(session, made.uid) if query.pods else None
                spans = await repository.spans_of(session, made.uid, now)
                used = await asyncio.to_thread(run_cost.RunTimeline, spans, made.attempts, now)
                found = await _added(session, tariff, made.uid, used, used.edges, used.key)
                by_pod: Found = {}
                if pods:
                    by_pod = await _added(session, tariff, made.uid, used, used.bounds, lambda pod: pod.uid)
            return await asyncio.to_thread(_run_as_json, made, used, found, tariff.book, pods, by_pod)

    async def _pods(self, session: ReadSession, uid: str) -> list[PodAllocation]:
        """Return all pods of a run, from the first to the last; raises Invalid for too many."""
        count = await repository.count_of(session, uid)
        if count > self.most_pods:
            right = f"must be false for a run with {count} pods: a response lists at most {self.most_pods}"
            raise Invalid.field("query.pods", True, right)
        found: list[PodAllocation] = []
        after = FIRST
        while part := await repository.pods_of(session, uid, after, self.pods_at_once):
            found.extend(part)
            after = part[-1].start, part[-1].uid
        return found

    async def _aggregator(
        self, session: ReadSession, asked: ResolvedCostQuery, among: Collection[str] | None, tariff: Tariff
    ) -> CostAggregator:
        kept = {key: await _kept(session, key, asked.window) for key in asked.grouping.keys}
        begins = {} if asked.former_namespaces else await _begins(session, among)
        visible = None if among is None else frozenset(among)

        def of_pod(pod: PodAllocation) -> Key | None:
            namespace = pod.owner.namespace
            if visible is not None and namespace not in visible:
                return None
            if namespace in begins and pod.start < begins[namespace]:
                return None
            return CostKind.USAGE, asked.grouping.of_pod(pod, kept)

        def of_idle(sku: Sku) -> Key | None:
            return (CostKind.IDLE, asked.grouping.of_idle(sku)) if asked.idle else None

        found = rows.BoundedCostSums(asked.window, asked.steps, asked.share_idle)
        aggregator = CostAggregator(tariff, asked.now, rows.edges(asked.window, asked.steps), found)
        keys = KeyFunctions(of_pod, of_idle)
        within = None if asked.idle else among
        await aggregation.add_usage(session, aggregator, asked.window, keys, within, asked.idle)
        return aggregator


async def _kept(session: ReadSession, key: str, window: Interval) -> Mapping[str, str]:
    """Return the runs' values of a key, by their uids."""
    found: dict[str, str] = {}
    after = ""
    while part := await repository.label_values(session, key, window, after, _KEPT_AT_ONCE):
        found.update(part)
        after = part[-1][0]
    return found


async def _begins(session: ReadSession, among: Collection[str] | None) -> Mapping[str, int]:
    """Return when the current namespaces of these names were created; nothing in one is older than it."""
    names = await repository.namespaces(session) if among is None else among
    found = await namespaces.list_lifetimes(session, names)
    return {name: unix_second(known[-1].created_at) for name, known in found.items()}


def resolve_query(query: CostQuery, now: datetime) -> ResolvedCostQuery:
    """Resolve the defaults of `query`; raises Invalid with the invalid parameter."""
    until = now if query.until is None else query.until
    since = steps.month_of(until - timedelta(seconds=1)) if query.since is None else query.since
    window = Interval(unix_second(since), unix_second(until) + (until.microsecond > 0))
    if not window:
        said = f"must be before to, which is {format_time(window.end)}"
        raise Invalid.field("query.from", format_time(window.start), said)
    if until - since > LONGEST:
        said = f"must be at most {LONGEST.days} days before to, which is {format_time(window.end)}"
        raise Invalid.field("query.from", format_time(window.start), said)
    return ResolvedCostQuery(
        window,
        steps.split_window(window, query.step),
        grouping.parse_grouping(query.group_by),
        query.idle or query.share_idle,
        query.share_idle,
        query.former_namespaces,
        unix_second(now),
    )


async def visible_namespaces(
    authorization: Authorization, caller: Caller, database: Database
) -> frozenset[str] | None:
    """Return the namespaces whose runs `caller` may list, and so whose costs it may see; None: all."""
    if await authorization.is_allowed(caller, LIST_EVERYWHERE):
        return None
    async with database.read() as session:
        known = await repository.namespaces(session)
    return await authorization.listable_namespaces(caller, known)


def as_json(asked: ResolvedCostQuery, query: CostQuery, found: list[CostLine]) -> bytes:
    """Return the response as JSON, row by row: objects for all rows would take ten times the memory."""
    names = asked.grouping.names
    table = CostTable(
        since=format_time(asked.window.start),
        until=format_time(asked.window.end),
        counted_until=format_time(min(asked.now, asked.window.end)),
        group_by=list(names),
        step=query.step,
        rows=[],
    )
    head = table.model_dump_json(by_alias=True, exclude={"rows"}).removesuffix("}").encode()
    lines = b",".join(_shown(row, names).model_dump_json(by_alias=True).encode() for row in found)
    return b'%s,"rows":[%s]}' % (head, lines)


def as_csv(asked: ResolvedCostQuery, found: list[CostLine]) -> bytes:
    """Return the response as CSV."""
    return csv_format.table(asked.grouping, found, [to_camel(name) for name in csv_format.AMOUNTS])


def _shown(row: CostLine, names: tuple[str, ...]) -> CostRow:
    amounts = {name: getattr(row, name) for name in csv_format.AMOUNTS}
    return CostRow(
        kind=row.kind,
        since=format_time(row.span.start),
        until=format_time(row.span.end),
        at=None if row.at is None else format_time(row.at),
        group=dict(zip(names, row.group, strict=True)),
        **{name: None if amount is None else float(amount) for name, amount in amounts.items()},
    )


async def _added(
    session: ReadSession,
    tariff: Tariff,
    uid: str,
    used: RunTimeline,
    edges: Sequence[int],
    key: Callable[[PodAllocation], Key],
) -> Found:
    """Return what the pods of a run used between `edges`, by `key`."""
    if not used.spans:
        return {}
    aggregator = CostAggregator(tariff, used.now, edges)
    keys = KeyFunctions(lambda pod: key(pod) if pod.owner.uid == uid else None)
    await aggregation.add_node_usage(session, aggregator, used.spans, keys)
    return aggregator.found


def _run_as_json(
    made: CostedRun,
    used: RunTimeline,
    found: Found,
    book: PriceBook,
    pods: Sequence[PodAllocation] | None,
    by_pod: Found,
) -> bytes:
    each = None if pods is None else run_cost.build_pod_costs(pods, by_pod, book)
    return run_cost.build_run_cost(made, used, found, book, each).model_dump_json(by_alias=True).encode()


async def _made(session: ReadSession, namespace: str, name: str, query: RunCostQuery) -> CostedRun:
    """Return a run and what it produced, or, for a run without a row, its usage. Raises RunNotFound."""
    try:
        run = await lookup.find(session, namespace, name, query.uid, query.former_namespaces)
        return CostedRun(
            namespace,
            name,
            run.uid,
            run.tokens,
            await checkpoints.count(session, run.uid),
            await _attempts(session, run.uid),
            tolerant_json.mapping(run.status, "cost"),
        )
    except RunNotFound:
        begins = {} if query.former_namespaces else await _begins(session, [namespace])
        since = begins.get(namespace)
        uid = await repository.find_owner(session, namespace, name, query.uid, since)
        if uid is None:
            raise
        return CostedRun(namespace, name, uid, 0, await checkpoints.count(session, uid), [], {})


async def _attempts(session: ReadSession, uid: str) -> list[tuple[int, int]]:
    """Return (number, start in seconds) of the known attempts, in order; in each second only the last one."""
    begun = {unix_second(start): number for number, start in await attempts.starts(session, uid)}
    return [(number, start) for start, number in sorted(begun.items())]
