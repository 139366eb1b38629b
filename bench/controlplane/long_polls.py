"""Megabytes by which the operator's process grows with each live run's long-poll.

    python -m bench.controlplane.long_polls

The coordinators are one server in another process, with the certificate of each run.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import re
import ssl
import sys
import tempfile
from asyncio.subprocess import PIPE
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import web

from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_contracts.names import RunUid
from footplate_contracts.tls_buffers import limit_tls_buffers
from footplate_operator.keys.credentials import KEY_BYTES, RunCredentials, derive_credentials
from footplate_operator.runtime.objects import Key
from footplate_operator.trainingrun.coordinator_client import (
    CoordinatorClient,
    CoordinatorEndpoint,
    CoordinatorPoller,
)

BAR_MEGABYTES: Final = 0.12
BEFORE: Final = 20  # runs that are there before anything is measured
SETTLED_SECONDS: Final = 8.0
_CREATED: Final = datetime(2026, 1, 1, tzinfo=UTC)


def host(number: int) -> str:
    """The name in the certificate of a run's coordinator."""
    return f"run-{number}-coordinator.default.svc"


def credentials(number: int) -> RunCredentials:
    """Of a run."""
    return derive_credentials(bytes(KEY_BYTES), f"uid-{number}", [host(number)], _CREATED)


async def serve(runs: int) -> None:
    """Be the coordinators of so many runs, which have no news; prints the port."""

    async def state(request: web.Request) -> web.Response:
        if int(request.query["after"]) >= 1:
            await asyncio.sleep(float(request.query["wait"]))
        said = CoordinatorState(version=1, epoch=1, state=RunState.TRAINING)
        return web.Response(text=said.model_dump_json(by_alias=True, exclude_none=True))

    contexts = {host(number): _context(credentials(number)) for number in range(runs)}

    def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        connection.context = contexts[str(name)]

    first = _context(credentials(0))
    first.sni_callback = choose
    app = web.Application()
    app.add_routes([web.get("/v1/state", state)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=first, backlog=runs)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


def _context(of: RunCredentials) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = Path(folder, "tls.crt"), Path(folder, "tls.key")
        certificate.write_bytes(of.certificate)
        key.write_bytes(of.private_key)
        context.load_cert_chain(certificate, key)
    return context


async def follow(runs: int, settled: float) -> float:
    """Megabytes a run, beyond the first few, each figure taken so many seconds after the last news."""
    arguments = ("-m", "bench.controlplane.long_polls", "--serve", "--runs", str(runs + BEFORE))
    server = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=PIPE)
    assert server.stdout is not None
    port = int(await server.stdout.readline())
    connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=0)
    try:
        async with aiohttp.ClientSession(connector=connector) as session:
            news = asyncio.Event()
            watchers = CoordinatorPoller(partial(CoordinatorClient, session), lambda key: news.set())
            before = await _grown(watchers, news, port, range(BEFORE), settled)
            after = await _grown(watchers, news, port, range(BEFORE, runs + BEFORE), settled)
            await watchers.close()
    finally:
        server.kill()
        await server.wait()
    return (after - before) / runs


async def _grown(
    watchers: CoordinatorPoller, news: asyncio.Event, port: int, numbers: range, settled: float
) -> float:
    """Resident megabytes once these runs are followed, too, and nothing more happens."""
    for number in numbers:
        known = credentials(number)
        endpoint = CoordinatorEndpoint(
            pod_uid=f"pod-{number}",
            epoch=1,
            address="127.0.0.1",
            host=host(number),
            token=known.token,
            certificate=known.certificate.decode(),
            port=port,
        )
        watchers.follow(Key("default", f"run-{number}"), RunUid(f"uid-{number}"), endpoint)
    while not all(watchers.state(RunUid(f"uid-{number}")).is_received for number in numbers):
        news.clear()
        await news.wait()
    await asyncio.sleep(settled)
    return _resident()


def _resident() -> float:
    gc.collect()
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def main() -> int:
    """Print the figure; 1 where it is above its bar."""
    parser = argparse.ArgumentParser(prog="bench.controlplane.long_polls", description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--smoke", action="store_true", help="five runs, without a bar")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve(arguments.runs))
    limit_tls_buffers()
    seen = asyncio.run(follow(*((5, 0.0) if arguments.smoke else (arguments.runs, SETTLED_SECONDS))))
    print(f"{seen:.3f} MB of resident memory a long-poll (bar {BAR_MEGABYTES})")
    return int(seen > BAR_MEGABYTES and not arguments.smoke)


if __name__ == "__main__":
    sys.exit(main())
