"""Lists of runs: what is in them, in which order, over which pages, and what the databases do for it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from sqlalchemy import ClauseElement, Executable, Select, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from footplate_api.db.database import Database
from footplate_api.labels import repository as labels_of
from footplate_api.labels import selector
from footplate_api.labels.repository import FEW
from footplate_api.labels.selector import Operator
from footplate_api.namespaces import repository as namespaces
from footplate_api.registry import repository, run_rows
from footplate_api.runs import list_queries, pagination
from footplate_api.runs.list_queries import NamespaceFilter
from footplate_api.runs.schemas import RunQuery
from footplate_api.runs.sort_order import CursorPosition, RunSort, order

NOW: Final = datetime(2026, 11, 28, tzinfo=UTC)
PHASES: Final = ("Succeeded", "Running", "Failed", "Suspended")


def run(number: int) -> dict[str, Any]:
    """A row of a run; runs with neighbouring numbers differ in all that a list may be filtered by."""
    created = NOW + timedelta(minutes=number // 2)  # two at once: the uid decides
    phase = PHASES[number % 4]
    over = {"completionTime": (created + timedelta(hours=1 + number % 7)).isoformat()}
    manifest = {
        "metadata": {
            "uid": f"uid-{number:06}",
            "namespace": f"team-{number % 3}",
            "name": f"run-{number * 7919 % 1000:03}-{number}",
            "resourceVersion": str(number + 1),
            "creationTimestamp": created.isoformat(),
            "labels": labels(number),
            "annotations": {"footplate.dev/requested-by": f"user-{number % 5}"},
        },
        "spec": {
            "stage": ("pretrain", "sft")[number % 2],
            "queue": f"queue-{number % 2}",
            "compute": {"profile": f"profile-{number % 4}"},
        },
        "status": {"phase": phase, **(over if phase in ("Succeeded", "Failed") else {})},
    }
    return {**run_rows.row(manifest, created), "deleted_at": NOW if number % 6 == 0 else None}


def labels(number: int) -> dict[str, str]:
    found = {"tier": ("gold", "iron")[number % 3 == 0], "unique": f"u{number}", "example.com/x": ""}
    return found | ({"team": f"t{number % 4}"} if number % 5 else {})


async def filled(database: Database, runs: int) -> list[dict[str, Any]]:
    rows = [run(number) for number in range(runs)]
    async with database.write(60) as session:
        await repository.store_runs(session, rows)
    return rows


async def listed(
    database: Database, within: NamespaceFilter, query: RunQuery, after: CursorPosition | None = None
) -> list[str]:
    async with database.read(60) as session:
        return [row.uid for row in await list_queries.page(session, within, query, after)]


def expected(rows: list[dict[str, Any]], within: NamespaceFilter, query: RunQuery) -> list[str]:
    """What a list must have, by looking at every run."""
    kept = [row for row in rows if holds(row, within, query)]
    never = datetime.max.replace(tzinfo=UTC)

    def place(row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(never if row[name] is None else row[name] for name in order(query.sort).columns)

    return [row["uid"] for row in sorted(kept, key=place, reverse=query.sort.descending)]


def holds(row: dict[str, Any], within: NamespaceFilter, query: RunQuery) -> bool:
    """Whether a run belongs to a list."""
    spec, asked = row["spec"], query
    begun, ended = row["created_at"], row["ended_at"]
    return all(
        (
            within.namespace in (None, row["namespace"]),
            within.among is None or row["namespace"] in within.among,
            asked.phase in (None, row["phase"]),
            asked.stage in (None, row["stage"]),
            asked.profile in (None, spec["compute"]["profile"]),
            asked.queue in (None, spec["queue"]),
            asked.requested_by in (None, row["annotations"]["footplate.dev/requested-by"]),
            asked.include_deleted or row["deleted_at"] is None,
            asked.created_from is None or begun >= asked.created_from,
            asked.created_to is None or begun < asked.created_to,
            asked.ended_from is None or (ended is not None and ended >= asked.ended_from),
            asked.ended_to is None or (ended is not None and ended < asked.ended_to),
            *(
                matches(row["labels"], wanted)
                for wanted in selector.parse_selector(asked.label_selector or "")
            ),
        )
    )


def matches(found: dict[str, str], requirement: selector.Requirement) -> bool:
    """As k8s.io/apimachinery has it."""
    value = found.get(requirement.key)
    match requirement.operator:
        case Operator.IN:
            return value in requirement.values
        case Operator.NOT_IN:
            return value not in requirement.values
        case Operator.EXISTS:
            return value is not None
        case Operator.DOES_NOT_EXIST:
            return value is None


FILTERS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"includeDeleted": True},
    {"phase": "Running"},
    {"phase": "Succeeded", "stage": "pretrain", "includeDeleted": True},
    {"phase": "Queued"},
    {"profile": "profile-1"},
    {"queue": "queue-1", "requestedBy": "user-3"},
    {"createdFrom": NOW + timedelta(minutes=3), "createdTo": NOW + timedelta(minutes=9)},
    {"endedFrom": NOW + timedelta(hours=2), "endedTo": NOW + timedelta(hours=4), "includeDeleted": True},
)
SELECTORS: Final = (
    None,
    "team=t1",
    "team in (t1, t3),tier!=gold",
    "!team",
    "team notin (t1)",
    "unique=u17",
    "example.com/x=",
    "team,tier=iron",
    "nothing=x",
    "team=t1,team=t2",
)
SCOPES: Final = (
    NamespaceFilter("team-1"),
    NamespaceFilter(),
    NamespaceFilter(among=("team-0", "team-2")),
    NamespaceFilter(among=()),
)


def queries(database: Database) -> Iterator[tuple[NamespaceFilter, RunQuery]]:
    """Every scope, filter and selector, in one order after the other.

    PostgreSQL, which takes five times as long for it, has every seventh: all of each, but not all pairs.
    """
    asked = zip(itertools.product(SCOPES, FILTERS, SELECTORS), itertools.cycle(RunSort), strict=False)
    every = 7 if database.engine.dialect.name == "postgresql" else 1
    for (within, filtered, labelled), sort in itertools.islice(asked, 0, None, every):
        yield within, RunQuery(**filtered, labelSelector=labelled, sort=sort, limit=50)


@pytest.mark.parametrize("few", [pytest.param(FEW, id="looked-up"), pytest.param(0, id="met-on-a-walk")])
async def test_each_list_has_the_runs_that_it_should_in_its_order(database: Database, few: int) -> None:
    rows = await filled(database, 40)
    async with database.read(60) as session:
        for within, query in queries(database):
            found = [row.uid for row in await list_queries.page(session, within, query, None, few)]
            assert found == expected(rows, within, query), (within, query)


@pytest.mark.parametrize("sort", RunSort)
async def test_pages_join_to_the_whole_list_though_runs_are_added(database: Database, sort: RunSort) -> None:
    rows = await filled(database, 24)
    query = RunQuery(sort=sort, limit=5, includeDeleted=True)
    seen: list[str] = []
    after: CursorPosition | None = None
    async with database.read(60) as session:
        while True:
            page = await list_queries.page(session, NamespaceFilter(), query, after)
            seen += [row.uid for row in page[: query.limit]]
            if len(page) <= query.limit:
                break
            after = CursorPosition(
                tuple(getattr(page[query.limit - 1], name) for name in order(sort).columns)
            )
            after = pagination.decode(pagination.encode(after, "q"), "q", sort)
    assert seen == expected(rows, NamespaceFilter(), query)


class Explained(Executable, ClauseElement):
    """How a statement is answered."""

    inherit_cache = False

    def __init__(self, statement: Select[Any]) -> None:
        self.statement = statement


@compiles(Explained)
def _explained(element: Explained, compiler: SQLCompiler, **arguments: Any) -> str:
    explain = "EXPLAIN" if compiler.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
    return f"{explain} {compiler.process(element.statement, **arguments)}"


def walks(plan: str) -> bool:
    """Whether an index of the order leads from run to run, and only runs of one moment are sorted."""
    nothing = "One-Time Filter: false" in plan  # of no namespace
    sorts = "Sort Key: runs." in plan or "B-TREE FOR ORDER BY" in plan
    return nothing or ("ix_runs_" in plan and not sorts)


async def test_every_list_walks_an_index_or_looks_up_a_few_runs(database: Database) -> None:
    await filled(database, 3000)
    async with database.write(60) as session:
        await session.execute(text("ANALYZE"))
        await session.execute(text("DROP TABLE IF EXISTS sqlite_stat1"))  # which nobody makes in production
    for within, query in queries(database):
        async with database.read(60) as session:
            few = await labels_of.find_few(session, [*list_queries.requirements(query)], FEW)
            for statement in await list_queries.statements(session, within, query, None):
                rows = await (await session.connection()).execute(Explained(statement.limit(101)))
                plan = "\n".join(" ".join(map(str, row)) for row in rows)
                assert few is not None or walks(plan), f"{query}\n{plan}"


async def test_namespaces_that_have_runs_are_known(database: Database) -> None:
    async with database.read() as session:
        assert await list_queries.namespaces_with_runs(session) == []
    await filled(database, 7)
    async with database.read() as session:
        assert await list_queries.namespaces_with_runs(session) == ["team-0", "team-1", "team-2"]


async def test_runs_of_former_namespaces_are_told_apart_in_lists_over_all(database: Database) -> None:
    await filled(database, 6)
    made = {"name": "team-1", "resource_version": 99, "created_at": NOW + timedelta(minutes=1)}
    async with database.write() as session:
        await namespaces.store_namespaces(session, [{**made, "uid": "anew"}])
    present = {"uid-000004", "uid-000002", "uid-000003", "uid-000005"}  # 1 was before, 0 is deleted
    assert set(await listed(database, NamespaceFilter(), RunQuery())) == present
    assert set(await listed(database, NamespaceFilter(), RunQuery(formerNamespaces=True))) == present | {
        "uid-000001"
    }


async def test_labels_follow_what_kubernetes_has(database: Database) -> None:
    await filled(database, 1)
    query = RunQuery(labelSelector="tier=iron", includeDeleted=True)
    assert await listed(database, NamespaceFilter(), query) == ["uid-000000"]
    changed = {**run(0), "labels": {"tier": "gold"}, "digest": "changed", "resource_version": 9}
    async with database.write() as session:
        await repository.store_runs(session, [changed])
    assert await listed(database, NamespaceFilter(), query) == []
    gold = RunQuery(labelSelector="tier=gold,!unique", includeDeleted=True)
    assert await listed(database, NamespaceFilter(), gold) == ["uid-000000"]
