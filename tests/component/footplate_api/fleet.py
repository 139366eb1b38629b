"""Coordinators that come back all at once, as after an outage, to an API process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from sqlalchemy import text

from cluster.machine.ports import claim_ports
from footplate_api.db.database import Database
from footplate_api.settings import with_driver
from footplate_contracts.quantity import parse_quantity
from tests.component.footplate_api.builders import RUNS, batch, eventually, row
from tests.component.footplate_api.test_process import ready, serving
from tests.component.footplate_api.test_tls import client, told
from tests.support.certificates import Issuer, Volume
from tests.support.review_server import of_pod

CHART = Path(__file__).parents[3] / "charts/footplate/values.yaml"
MEASURED = ("stepSeconds", "dataSeconds", "computeSeconds", "communicationSeconds", "optimizerSeconds")


def full(step: int) -> dict[str, Any]:
    """A row of fifteen numbers, as long as real ones are written."""
    made = row(step, loss=2.718281828459045 + step * 1e-9)
    seconds = dict.fromkeys(MEASURED, 0.8765 + step * 1e-09)
    made["metrics"] |= {
        **seconds,
        "mfu": 0.41234567,
        "mfuCausal": 0.39123456,
        "memoryBytes": (1 << 36) + step,
    }
    return made


def allowed() -> float:
    """Bytes that the chart lets the process take."""
    limits = yaml.safe_load(CHART.read_text())["api"]["resources"]["limits"]
    found = parse_quantity(limits["memory"])
    assert found is not None
    return found


def peak(pid: int) -> int:
    """Bytes that a process had resident at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024


@dataclass
class Process:
    """An API process that is ready."""

    port: int
    pid: int
    issuer: Issuer

    @asynccontextmanager
    async def callers(self) -> AsyncIterator[aiohttp.ClientSession]:
        """As many connections as there are callers."""
        unbounded = aiohttp.TCPConnector(limit=0, ssl=self.issuer.trusting())
        patient = aiohttp.ClientTimeout(total=None)
        url = f"https://127.0.0.1:{self.port}"
        async with aiohttp.ClientSession(url, connector=unbounded, timeout=patient) as session:
            yield session


@asynccontextmanager
async def api(folder: Path, url: str, **variables: str) -> AsyncIterator[Process]:
    """A process on the database at `url`, which serves with TLS as in a pod."""
    [port], issuer, volume = claim_ports(1), Issuer(), Volume(folder / "tls")
    volume.put(issuer.serving())
    with serving(folder, port, plain(url), fresh=True, **told(volume), **variables) as process:
        async with client(port, issuer) as probe:
            await eventually(lambda: ready(probe), bool, seconds=60)
        yield Process(port, process.pid, issuer)


async def deliver(session: aiohttp.ClientSession, number: int, body: bytes) -> int:
    """Sends until it is taken or refused for good; the status of that."""
    headers = {"Content-Type": "application/json", **of_pod(f"uid-{number}", "research")}
    while True:
        async with session.post(f"{RUNS}/run-{number}/telemetry", data=body, headers=headers) as answer:
            await answer.read()
            if answer.status not in (429, 503):
                return answer.status
        await asyncio.sleep(float(answer.headers["Retry-After"]))


async def returning(process: Process, senders: int, body: Callable[[int], bytes]) -> list[int]:
    """The statuses of `senders` batches that are sent in the same moment."""
    bodies = [body(number) for number in range(senders)]
    async with process.callers() as session:
        return await asyncio.gather(*(deliver(session, *sent) for sent in enumerate(bodies)))


def backlog(number: int, rows: int, first: int = 1) -> bytes:
    """What a coordinator has gathered: the steps from `first` to `rows`."""
    return json.dumps(batch(f"uid-{number}", [full(step) for step in range(first, rows + 1)])).encode()


def wrong(number: int, rows: int) -> bytes:
    """As much, of another release that calls everything by another type."""
    sent = [full(step) for step in range(1, rows + 1)]
    for known in sent:
        known["metrics"] = {name: [value] for name, value in known["metrics"].items()}
    return json.dumps(batch(f"uid-{number}", sent)).encode()


def plain(url: str) -> str:
    """`url` as a chart writes it."""
    return url.replace("+aiosqlite", "").replace("+asyncpg", "")


async def stored(url: str) -> dict[str, tuple[int, ...]]:
    """Run -> its rows, different steps, last step, and the steps that its extents count."""
    opened = Database(with_driver(plain(url)))
    rows = await counted(opened, "count(*), count(DISTINCT step), max(step)", "metric_rows")
    extents = await counted(opened, "sum(last_step - first_step + 1)", "metric_extents")
    await opened.close()
    assert rows.keys() == extents.keys()
    return {run: (*rows[run], *extents[run]) for run in rows}


async def counted(database: Database, what: str, table: str) -> dict[str, tuple[int, ...]]:
    """Run -> `what` of its rows of a table."""
    of_runs = f"{table} JOIN metric_segments s ON s.id = segment_id GROUP BY s.run_uid"
    async with database.read(600) as session:
        found = await session.execute(text(f"SELECT s.run_uid, {what} FROM {of_runs}"))
    return {run: tuple(int(number) for number in numbers) for run, *numbers in found}
