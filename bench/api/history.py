"""How long does a part of a long history take, and how many bytes a stored point?

A hundred million points are put into the database, rows of fifteen, runs of a million rows among them. Then
1,000 points of ten metrics are asked of five runs at once, as a dashboard does: first of the five longest, by
an API that has answered nothing yet, then of the others in turn, and of all again. Bars: 300 ms for all five
at the 99th percentile, 24 bytes a point on disk, indexes included.

    python -m bench.api.history [--points 100000000] [--looks 400] [--database-url URL] [--smoke]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import httpx
from bench.api.percentiles import percentile
from bench.api.serving import api, database
from sqlalchemy import text

from footplate_api.db import migrate
from footplate_api.db.database import Database
from footplate_api.settings import with_driver
from tests.support.review_server import BEARER

BAR_SECONDS: Final = 0.300
BAR_BYTES: Final = 24.0
POINTS: Final = 15  # a row, as a real one has
ROWS: Final = 1000  # asked of each run
RUNS: Final = 5  # asked at once
LONG, SHORT = 1_000_000, 10_000  # rows of a run; three in ten rows are of long ones
NAMES: Final = (
    "time,loss,gradientNorm,learningRate,tokens,tokensPerSecond,stepSeconds,dataSeconds,computeSeconds,mfu"
)
_SERIES: Final = {
    "sqlite": "WITH RECURSIVE n(step) AS (SELECT 1 UNION ALL SELECT step + 1 FROM n WHERE step < :rows) ",
    "postgresql": "WITH n(step) AS (SELECT generate_series(CAST(1 AS bigint), CAST(:rows AS bigint))) ",
}
_FILL: Final = """
INSERT INTO metric_rows (segment_id, step, tokens, sample_digest, time, loss, gradient_norm, learning_rate,
    tokens_per_second, step_seconds, data_seconds, compute_seconds, communication_seconds, optimizer_seconds,
    mfu, mfu_causal, memory_bytes, checkpoint_seconds)
{series} SELECT CAST(:segment AS bigint), step, step * 524288, '0123456789abcdef',
    CAST(:begun AS double precision) + step,
    2.7 + 1.0 / step, 0.57 + 1.0 / step, 6e-4, 123456.789 + step, 0.9 + 1.0 / step, 0.01, 0.7, 0.05, 0.02,
    0.41, 0.39, 68719476736, 0.0 FROM n
"""


def sizes(points: int) -> list[int]:
    """Rows of each run, the longest first."""
    rows = points // POINTS
    long = max(RUNS, round(0.3 * rows / LONG)) if rows >= 10 * LONG // 3 else 0
    short = (rows - long * LONG) // min(SHORT, rows // RUNS)
    return [LONG] * long + [min(SHORT, rows // RUNS)] * short


async def fill(url: str, runs: list[int]) -> float:
    """Puts runs of so many rows into a migrated database; bytes that all of it takes."""
    opened = Database(with_driver(url))
    await migrate.upgrade(opened)
    dialect = opened.engine.dialect.name
    statement = text(_FILL.format(series=_SERIES[dialect]))
    for number, rows in enumerate(runs):
        async with opened.write(None) as session:
            await session.execute(
                text(
                    "INSERT INTO runs (uid, namespace, name, step, total_steps, tokens, generation,"
                    " resource_version, created_at, seen_at, status) VALUES"
                    " (:uid, 'bench', :uid, 0, 0, 0, 1, 1, '2026-01-01 00:00:00', '2026-01-01 00:00:00',"
                    " '{}')"
                ),
                {"uid": f"run-{number}"},
            )
            key = {"segment": number + 1, "uid": f"run-{number}", "rows": rows}
            await session.execute(
                text(
                    "INSERT INTO metric_segments (id, run_uid, epoch, number) VALUES (:segment, :uid, 1, 1)"
                ),
                {name: key[name] for name in ("segment", "uid")},
            )
            await session.execute(
                text("INSERT INTO metric_extents VALUES (:segment, 1, :rows)"),
                {name: key[name] for name in ("segment", "rows")},
            )
            # Rows that are months old would be thinned at once.
            begun = {"begun": time.time() - rows}
            await session.execute(statement, begun | {name: key[name] for name in ("segment", "rows")})
    async with opened.read(None) as session:
        if dialect == "postgresql":
            size = text("SELECT pg_total_relation_size('metric_rows')")
        else:
            size = text("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
        found = float((await session.execute(size)).scalar_one())
    await opened.close()
    return found


async def looks(url: str, runs: list[int], count: int) -> list[float]:
    """Seconds of each look at five runs at once."""
    seconds = []
    async with httpx.AsyncClient(base_url=url, timeout=60, headers=BEARER) as client:

        async def part(number: int) -> None:
            path = f"/v1/namespaces/bench/runs/run-{number % len(runs)}/metrics"
            answer = await client.get(path, params={"names": NAMES, "limit": ROWS})
            answer.raise_for_status()
            assert len(answer.json()["loss"]) > ROWS // 2, answer.text[:200]

        for look in range(count):
            started = time.perf_counter()
            await asyncio.gather(*(part(RUNS * look + number) for number in range(RUNS)))
            seconds.append(time.perf_counter() - started)
    return seconds


def main() -> int:
    """Prints time and room; exit code 1 beyond a bar."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=100_000_000)
    parser.add_argument("--looks", type=int, default=400)
    parser.add_argument("--database-url", help="default: a new SQLite file")
    parser.add_argument("--smoke", action="store_true", help="few points, in seconds: shows that it runs")
    arguments = parser.parse_args()
    points, count = (150_000, 5) if arguments.smoke else (arguments.points, arguments.looks)
    runs = sizes(points)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url = database(arguments.database_url, folder)
        size = asyncio.run(fill(url, runs))
        with api(folder, url) as address:
            seconds = asyncio.run(looks(address, runs, count))
    stored = sum(runs) * POINTS
    high = percentile(seconds)
    print(f"{stored:,} points of {len(runs)} runs, the longest of {runs[0]:,} rows")
    print(f"on disk              {size / stored:10.1f} bytes a point   (bar {BAR_BYTES:.0f})")
    print(
        f"{RUNS} runs, {ROWS:,} rows each, ten metrics: median {statistics.median(seconds) * 1e3:.0f} ms,"
        f" p99 {high * 1e3:.0f} ms   (bar {BAR_SECONDS * 1e3:.0f} ms)"
    )
    first, longest = seconds[0] * 1e3, max(seconds) * 1e3
    print(f"  the first of {len(seconds)} looks {first:.0f} ms, the longest {longest:.0f} ms")
    return 0 if high <= BAR_SECONDS and size / stored <= BAR_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
