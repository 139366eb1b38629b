"""Memory and latency of the API while peers without a token send half of their requests' heads.

    python -m bench.api.half_sent [--connections 4000] [--addresses 100] [--size 60000] [--seconds 60]
    python -m bench.api.half_sent --smoke

An API with TLS and a SQLite file runs as a process of its own. Another process keeps so many connections
open to it, from as many addresses of the loopback, each with a head of `size` bytes that never ends; what is
closed is opened again at once. A third caller lists runs all the while, ten times a second. Prints the
API's resident memory and the third caller's latencies; ends with 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from bench.api.percentiles import percentile
from bench.api.serving import Usage

from tests.component.footplate_api.fleet import api
from tests.support.half_sent import attacking
from tests.support.review_server import BEARER

MEGABYTES: Final = 200.0  # the bars
SECONDS: Final = 1.0
PAUSE_SECONDS: Final = 0.1
TIMEOUT_SECONDS: Final = 10.0


@dataclass
class Seen:
    """Measurements of one run of the benchmark."""

    megabytes: list[float]
    latencies: list[float]  # seconds
    failures: int = 0


async def observe(url: str, usage: Usage, seconds: float, trust: ssl.SSLContext) -> Seen:
    """Call the API until `seconds` are over, over one connection as a coordinator does."""
    seen = Seen([usage.megabytes], [])
    end = time.monotonic() + seconds
    async with httpx.AsyncClient(
        base_url=url, headers=BEARER, verify=trust, timeout=TIMEOUT_SECONDS
    ) as client:
        while time.monotonic() < end:
            began = time.monotonic()
            try:
                answer = await client.get("/v1/namespaces/default/runs")
                seen.failures += answer.status_code != 200
            except httpx.HTTPError:
                seen.failures += 1
            seen.latencies.append(time.monotonic() - began)
            seen.megabytes.append(usage.megabytes)
            await asyncio.sleep(PAUSE_SECONDS)
    return seen


async def measure(arguments: argparse.Namespace, folder: Path) -> Seen:
    """Attack an API for so long."""
    async with api(folder, f"sqlite:///{folder}/footplate.db") as process:
        url, usage = f"https://127.0.0.1:{process.port}", Usage(process.pid)
        with attacking(process.port, arguments.connections, arguments.addresses, arguments.size):
            return await observe(url, usage, arguments.seconds, process.issuer.trusting())


def main() -> int:
    """Print what was seen; return 1 where a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.api.half_sent", description=__doc__)
    parser.add_argument("--connections", type=int, default=4000)
    parser.add_argument("--addresses", type=int, default=100)
    parser.add_argument("--size", type=int, default=60_000, help="bytes of each head")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--smoke", action="store_true", help="40 connections for a second")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.connections, arguments.addresses, arguments.seconds = 40, 4, 1.0
    with tempfile.TemporaryDirectory() as folder:
        seen = asyncio.run(measure(arguments, Path(folder)))
    p50, p99 = statistics.median(seen.latencies), percentile(seen.latencies)
    most = max(seen.megabytes)
    print(
        f"{arguments.connections} heads of {arguments.size} bytes from {arguments.addresses} addresses,"
        f" {arguments.seconds:g} s\n"
        f"memory: {seen.megabytes[0]:.0f} MB before, {most:.0f} MB at most (bar {MEGABYTES:g})\n"
        f"another caller: {len(seen.latencies)} requests, {seen.failures} failed,"
        f" P50 {p50 * 1e3:.0f} ms, P99 {p99 * 1e3:.0f} ms (bar {SECONDS * 1e3:g})"
    )
    return int(most > MEGABYTES or p99 > SECONDS or seen.failures > 0)


if __name__ == "__main__":
    raise SystemExit(main())
