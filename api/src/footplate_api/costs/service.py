"""What was used, added up for whoever may see it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from pydantic.alias_generators import to_camel

from footplate_api import lenient
from footplate_api.attempts import repository as attempts
from footplate_api.checkpoints import repository as checkpoints
from footplate_api.costs import csv, grouping, of_run, reckoning, rows, steps
from footplate_api.costs.grouping import Grouping
from footplate_api.costs.of_run import Made
from footplate_api.costs.reckoning import PATIENCE_SECONDS, Keys
from footplate_api.costs.rows import CostLine, Kind
from footplate_api.costs.schemas import CostQuery, CostRow, CostTable, RunCost, RunCostQuery
from footplate_api.costs.turns import of_costs
from footplate_api.database import Database, ReadSession
from footplate_api.errors import Invalid, RunNotFound
from footplate_api.identity.authorization import Authorization
from footplate_api.identity.caller import LIST_EVERYWHERE, Caller
from footplate_api.namespaces import repository as namespaces
from footplate_api.runs import service as runs
from footplate_api.tariff.service import Tariffs
from footplate_api.turns import Turns
from footplate_api.usage import repository
from footplate_ledger.account import Tariff
from footplate_ledger.records import written
from footplate_ledger.tally import Key, Tallies
from footplate_ledger.time import Span, second
from footplate_ledger.usage import Goods, PodUsage

LONGEST: Final = timedelta(days=3660)
_KEPT_AT_ONCE: Final = 5000


@dataclass(frozen=True)
class Question:
    """What is asked for."""

    window: Span
    steps: list[Span]
    grouping: Grouping
    idle: bool
    share_idle: bool
    former_namespaces: bool
    now: int


@dataclass
class Costs:
    """One for the process."""

    database: Database
    tariffs: Tariffs
    turns: Turns = field(default_factory=of_costs)

    async def rows(self, asked: Question, among: Collection[str] | None) -> list[CostLine]:
        """The rows of the answer, from the namespaces `among`, or from all; raises CostsBusy."""
        async with self.turns.turn():
            tariff = await self.tariffs.now()
            async with self.database.read(PATIENCE_SECONDS) as session:
                tallies = await self._tallies(session, asked, among, tariff)
            return await asyncio.to_thread(
                rows.rows,
                tallies.found,
                asked.window,
                asked.steps,
                tariff.book,
                asked.now,
                asked.share_idle,
            )

    async def of_run(self, namespace: str, name: str, query: RunCostQuery, now: int) -> RunCost:
        """What a run has cost; raises RunNotFound, CostsBusy."""
        async with self.turns.turn():
            tariff = await self.tariffs.now()
            async with self.database.read(PATIENCE_SECONDS) as session:
                made = await _made(session, namespace, name, query)
                used = of_run.Used(await repository.pods_of(session, made.uid), made.attempts, now)
                tallies = Tallies(tariff, now, used.edges) if used.spans else None
                if tallies is not None:
                    keys = Keys(lambda pod: pod.uid if pod.uid in used.pods else None)
                    await reckoning.add_beside(session, tallies, used.spans, keys)
            found = {} if tallies is None else tallies.found
            return await asyncio.to_thread(of_run.shown, made, used, found, tariff.book, query.pods)

    async def _tallies(
        self, session: ReadSession, asked: Question, among: Collection[str] | None, tariff: Tariff
    ) -> Tallies:
        kept = {key: await _kept(session, key, asked.window) for key in asked.grouping.keys}
        begins = {} if asked.former_namespaces else await _begins(session, among)
        visible = None if among is None else frozenset(among)

        def of_pod(pod: PodUsage) -> Key | None:
            namespace = pod.owner.namespace
            if visible is not None and namespace not in visible:
                return None
            if namespace in begins and pod.start < begins[namespace]:
                return None
            return Kind.USAGE, asked.grouping.of_pod(pod, kept)

        def of_idle(goods: Goods) -> Key | None:
            return (Kind.IDLE, asked.grouping.of_idle(goods)) if asked.idle else None

        tallies = Tallies(tariff, asked.now, rows.edges(asked.window, asked.steps))
        keys = Keys(of_pod, of_idle)
        within = None if asked.idle else among
        await reckoning.add_all(session, tallies, asked.window, keys, within, asked.idle)
        return tallies


async def _kept(session: ReadSession, key: str, window: Span) -> Mapping[str, str]:
    """What runs have under a key, by their uids."""
    found: dict[str, str] = {}
    after = ""
    while part := await repository.kept(session, key, window, after, _KEPT_AT_ONCE):
        found.update(part)
        after = part[-1][0]
    return found


async def _begins(session: ReadSession, among: Collection[str] | None) -> Mapping[str, int]:
    """Since when the namespaces of these names are the present ones; nothing in one is older than it."""
    names = await repository.namespaces(session) if among is None else among
    found = await namespaces.generations(session, names)
    return {name: second(known[-1].created_at) for name, known in found.items()}


def question(query: CostQuery, now: datetime) -> Question:
    """What `query` asks for; raises Invalid with the parameter that cannot be."""
    until = now if query.until is None else query.until
    since = steps.month_of(until - timedelta(seconds=1)) if query.since is None else query.since
    window = Span(second(since), second(until) + (until.microsecond > 0))
    if not window:
        said = f"must be before to, which is {written(window.end)}"
        raise Invalid.field("query.from", written(window.start), said)
    if until - since > LONGEST:
        said = f"must be at most {LONGEST.days} days before to, which is {written(window.end)}"
        raise Invalid.field("query.from", written(window.start), said)
    return Question(
        window,
        steps.steps(window, query.step),
        grouping.parse(query.group_by),
        query.idle or query.share_idle,
        query.share_idle,
        query.former_namespaces,
        second(now),
    )


async def visible(authorization: Authorization, caller: Caller, database: Database) -> frozenset[str] | None:
    """The namespaces whose costs `caller` may see: those whose runs they may list; None: all."""
    if await authorization.allowed(caller, LIST_EVERYWHERE):
        return None
    async with database.read() as session:
        known = await repository.namespaces(session)
    return await authorization.listable(caller, known)


def as_json(asked: Question, query: CostQuery, found: list[CostLine]) -> bytes:
    """The answer."""
    names = asked.grouping.names
    table = CostTable(
        since=written(asked.window.start),
        until=written(asked.window.end),
        counted_until=written(min(asked.now, asked.window.end)),
        group_by=list(names),
        step=query.step,
        rows=[_shown(row, names) for row in found],
    )
    return table.model_dump_json(by_alias=True).encode()


def as_csv(asked: Question, found: list[CostLine]) -> bytes:
    """The answer as a table of text."""
    return csv.table(asked.grouping, found, [to_camel(name) for name in csv.AMOUNTS])


def _shown(row: CostLine, names: tuple[str, ...]) -> CostRow:
    amounts = {name: getattr(row, name) for name in csv.AMOUNTS}
    return CostRow(
        kind=row.kind,
        since=written(row.span.start),
        until=written(row.span.end),
        at=None if row.at is None else written(row.at),
        group=dict(zip(names, row.group, strict=True)),
        **{name: None if amount is None else float(amount) for name, amount in amounts.items()},
    )


async def _made(session: ReadSession, namespace: str, name: str, query: RunCostQuery) -> Made:
    """A run and what it made; of one that only its usage tells of, that. Raises RunNotFound."""
    try:
        run = await runs.get(session, namespace, name, query.uid, query.former_namespaces)
        return Made(
            namespace,
            name,
            run.uid,
            run.tokens,
            await checkpoints.count(session, run.uid),
            await _attempts(session, run.uid),
            lenient.mapping(run.status, "cost"),
        )
    except RunNotFound:
        begins = {} if query.former_namespaces else await _begins(session, [namespace])
        since = begins.get(namespace)
        uid = await repository.owner_named(session, namespace, name, query.uid, since)
        if uid is None:
            raise
        return Made(namespace, name, uid, 0, await checkpoints.count(session, uid), [], {})


async def _attempts(session: ReadSession, uid: str) -> list[tuple[int, int]]:
    """Number and beginning of each that is known, in order; each begins in a second of its own."""
    begun = {second(start): number for number, start in await attempts.starts(session, uid)}
    return [(number, start) for start, number in sorted(begun.items())]
