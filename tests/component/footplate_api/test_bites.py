"""Nothing that callers ask for or bring keeps the event loop from others for long."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import httpx
import pytest

from footplate_api.app_context import AppContext
from footplate_api.attempts import repository as attempts
from footplate_api.db.bulk import insert_missing
from footplate_api.db.database import Database
from footplate_api.dependencies import RUN_LIMIT
from footplate_api.instruments import ApiMetrics, MirrorHealth
from footplate_api.metrics import telemetry
from footplate_api.metrics.schemas import MOST_ROWS
from footplate_api.models.base import table_of
from footplate_api.models.metric import MetricExtent
from footplate_api.models.run import AttemptRow
from footplate_api.system.service import GAUGED_RUNS
from footplate_api.telemetry import ingest
from footplate_api.telemetry.telemetry_admission import TELEMETRY_LIMIT
from footplate_ledger.units import Energy, Seconds
from footplate_ledger.usage import TOLD, EndTime, MeasuredEnergy, Owner, PodAllocation
from tests.component.footplate_api import fleet
from tests.component.footplate_api.builders import RUNS, batch, coordinator, eventually, row
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.threaded import Served, served
from tests.component.footplate_api.usages import store as use
from tests.support.review_server import FakeReviewer
from tests.support.usage_worlds import DAY, T0, node, pod

pytestmark = pytest.mark.any_database

LONGEST_BITE = 0.1  # seconds of CPU
BATCH = 5000  # the most rows of one
GAPS = 100_000
HEADERS = {"Content-Type": "application/json"}
OPTIONAL = ("checkpointSeconds", "validationSeconds", "validationLoss")


@asynccontextmanager
async def with_runs(url: str, count: int) -> AsyncIterator[Served]:
    """An application that knows the runs run-0, run-1 … of Kubernetes."""
    cluster = FakeCluster()
    for number in range(count):
        about = {"uid": f"uid-{number}"}
        await cluster.put("research", f"run-{number}", metadata=about, status={"phase": "Running"})
    async with served(
        AppContext(Database(url), cluster, FakeReviewer(), ApiMetrics(), MirrorHealth())
    ) as api:

        async def known() -> bool:
            answers = [await api.client.get(f"{RUNS}/run-{number}") for number in (0, count - 1)]
            return all(answer.status_code == 200 for answer in answers)

        await eventually(known, bool, seconds=30)
        yield api


async def sender(api: Served) -> dict[str, str]:
    """Headers of the coordinator of run-0."""
    return HEADERS | await api.do(coordinator(api.context, "uid-0", "run-0"))


def body(number: int, steps: Iterable[int]) -> bytes:
    """A batch of rows that have every number, and eight further ones."""
    rows = [fleet.full(step) for step in steps]
    for known in rows:
        further = {f"reward/{name}": name / 7 for name in range(8)}
        known["metrics"] |= {**dict.fromkeys(OPTIONAL, 0.25), "checkpointsLeftOut": 0, "values": further}
    return json.dumps(batch(f"uid-{number}", rows)).encode()


async def store(api: Served, numbers: range, steps: range) -> None:
    """Rows of these runs, all like those that a batch brings."""
    sent = telemetry.parse_batch("research", "run-0", body(0, steps[:1]))
    [(generation, [like])] = sent.rows.items()
    rows = [replace(like, columns=(step, *like.columns[1:])) for step in steps]
    deliveries = [
        replace(sent, name=f"run-{number}", run_uid=f"uid-{number}", rows={generation: rows})
        for number in numbers
    ]

    async def stored() -> None:
        async with api.context.database.write(None) as session:
            assert not any(await ingest.store_batches(session, deliveries))

    await api.do(stored())


async def measured(api: Served, method: str, path: str, **sent: Any) -> httpx.Response:
    """The answer, for which nobody waited longer than they may."""
    answer, longest = await api.lag(api.client.request(method, path, **sent))
    print(f"{method} {path}: {longest:.3f} s of CPU at most")
    assert longest < LONGEST_BITE
    return answer


async def test_the_longest_history(database_url: str) -> None:
    async with with_runs(database_url, 1) as api:
        await store(api, range(1), range(1, MOST_ROWS + 1))
        answer = await measured(api, "GET", f"{RUNS}/run-0/metrics", params={"limit": MOST_ROWS})
        thinned = await measured(api, "GET", f"{RUNS}/run-0/metrics", params={"limit": MOST_ROWS, "every": 2})
    assert answer.json()["step"] == list(range(1, MOST_ROWS + 1))
    assert thinned.json()["step"] == list(range(2, MOST_ROWS + 1, 2))
    assert len(answer.json()["values"]["reward/7"]) == MOST_ROWS


@pytest.mark.long
async def test_a_run_whose_rows_have_many_gaps(database_url: str) -> None:
    async with with_runs(database_url, 1) as api:
        await store(api, range(1), range(1, 2))

        async def gaps() -> None:
            extents = [(1, step, step) for step in range(3, 2 * GAPS, 2)]
            async with api.context.database.write(None) as session:
                await insert_missing(
                    session, table_of(MetricExtent), ("segment_id", "first_step", "last_step"), extents
                )

        await api.do(gaps())
        answer = await measured(api, "GET", f"{RUNS}/run-0/metrics", params={"limit": 10})
        assert answer.json()["holes"][-1] == {"from": 200, "to": 200}
        await measured(api, "GET", f"{RUNS}/run-0/metrics", params={"limit": 10, "to": 10})
        await measured(api, "GET", "/metrics")


async def test_a_scrape_of_all_the_gauges_there_can_be(database_url: str) -> None:
    async with with_runs(database_url, GAUGED_RUNS) as api:
        await store(api, range(GAUGED_RUNS), range(1, 2))
        answer = await measured(api, "GET", "/metrics")
    assert answer.text.count("\nfootplate_run_memory_bytes{") == GAUGED_RUNS


async def test_the_largest_batch(database_url: str) -> None:
    async with with_runs(database_url, 1) as api:
        sent, headers = body(0, range(1, BATCH + 1)), await sender(api)
        answer = await measured(api, "POST", f"{RUNS}/run-0/telemetry", content=sent, headers=headers)
    assert (answer.status_code, answer.json()["rows"]) == (200, BATCH)


PODS, ATTEMPTS, MINUTES = 8000, 1000, 10  # of each attempt
LONG_AGO = T0 - 1000 * DAY


def attempt(number: int) -> dict[str, Any]:
    """A row of the table."""
    columns = {column.name: None if column.nullable else 0 for column in table_of(AttemptRow).columns}
    texts = dict.fromkeys(("generation", "reason", "node", "message"), "")
    start = datetime.fromtimestamp(LONG_AGO + (number - 1) * MINUTES * 60, UTC)
    return {**columns, **texts, "run_uid": "uid-0", "number": number, "resource_version": 1, "start": start}


def of_attempt(number: int) -> PodAllocation:
    """The pod of this number, of as many in each attempt."""
    start = LONG_AGO + number * ATTEMPTS // PODS * MINUTES * 60
    return pod(
        f"p{number:04}",
        owner=Owner("TrainingRun", "research", "run-0", "uid-0"),
        node=f"n{number % 64}",
        start=start,
        end=EndTime(TOLD, start + MINUTES * 60),
        measured=MeasuredEnergy(Energy.joules(10**6 + number), Seconds(Fraction(500 + number % 7))),
    )


@pytest.mark.long
async def test_the_cost_of_a_run_that_began_very_often(database_url: str) -> None:
    async def stored() -> None:
        async with api.context.database.write(None) as session:
            await attempts.store_attempts(session, [attempt(number) for number in range(1, ATTEMPTS + 1)])
        nodes = [node(f"n{number}", start=LONG_AGO) for number in range(64)]
        await use(api.context.database, map(of_attempt, range(PODS)), nodes)

    async with with_runs(database_url, 1) as api:
        await api.do(stored())
        answer = await measured(api, "GET", f"{RUNS}/run-0/cost")
        with_pods = await measured(api, "GET", f"{RUNS}/run-0/cost", params={"pods": True})
    found = with_pods.json()
    assert answer.json() == {**found, "countedUntil": answer.json()["countedUntil"], "pods": None}
    assert found["total"]["nodeSeconds"] == PODS * MINUTES * 60
    assert [part["nodeSeconds"] for part in found["attempts"]] == [PODS // ATTEMPTS * MINUTES * 60] * ATTEMPTS
    assert [part["uid"] for part in found["pods"]] == [f"p{number:04}" for number in range(PODS)]
    assert {part["nodeSeconds"] for part in found["pods"]} == {MINUTES * 60}


def a_list(limit: int) -> bytes:
    """As long as a body may be, and nothing but one list of numbers."""
    return b"[%s1]" % (b"1," * ((limit - 3) // 2))


def wrong() -> bytes:
    metrics = dict.fromkeys(row(1)["metrics"], "x" * 30)
    return json.dumps(batch("uid-0", [{**row(step), "metrics": metrics} for step in range(BATCH)])).encode()


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        pytest.param(f"{RUNS}/run-0/telemetry", a_list(TELEMETRY_LIMIT), id="telemetry-that-is-a-list"),
        pytest.param(RUNS, a_list(RUN_LIMIT), id="a-run-that-is-a-list"),
        pytest.param(f"{RUNS}/run-0/telemetry", wrong(), id="forty-thousand-wrong-fields"),
    ],
)
async def test_what_is_refused(sqlite_url: str, path: str, sent: bytes) -> None:
    async with with_runs(sqlite_url, 1) as api:
        headers = HEADERS if path == RUNS else await sender(api)
        answer = await measured(api, "POST", path, content=sent, headers=headers)
    assert answer.status_code == 422, answer.text
