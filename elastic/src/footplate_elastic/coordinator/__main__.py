"""`python -m footplate_elastic.coordinator`: reads the environment, serves until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import signal
import ssl
import sys
import time
from collections.abc import Callable, Sequence

from aiohttp import web

from footplate_contracts import environment, logs
from footplate_contracts.names import Env, ExitCode
from footplate_contracts.tls_buffers import limit_tls_buffers
from footplate_elastic.coordinator.config import CoordinatorConfig, admitted_directives
from footplate_elastic.coordinator.core import Coordinator
from footplate_elastic.coordinator.rank_order import RankOrder
from footplate_elastic.coordinator.server import Server
from footplate_elastic.coordinator.service import Service
from footplate_elastic.coordinator.state import new_membership
from footplate_elastic.coordinator.telemetry import TelemetryBuffer
from footplate_elastic.coordinator.telemetry_sender import TelemetryDestination, TelemetrySender
from footplate_elastic.coordinator.timing import FLUSH, Timing

_log = logging.getLogger(__name__)
_BACKLOG = 4096  # three connections of each agent, which all come at once behind a new coordinator


def main(timing: Timing | None = None) -> int:
    """Return the exit code: 0 after SIGTERM, 78 for invalid settings; tests vary `timing`."""
    bind = _arguments().bind
    try:
        config = environment.read_settings(CoordinatorConfig)
    except ValueError as error:
        print(f"coordinator: {error}", file=sys.stderr)
        return ExitCode.CONFIG
    logs.configure("footplate_elastic", log_format=config.log_format)
    limit_tls_buffers()
    run = config.outline.run
    logs.set_process_fields(run=f"{run.namespace}/{run.name}", uid=run.uid, epoch=config.epoch)
    asyncio.run(serve(config, bind, timing or Timing()))
    return ExitCode.SUCCESS


async def serve(config: CoordinatorConfig, bind: str | None, timing: Timing) -> None:
    """Serve until SIGTERM or SIGINT, then send the rest of the telemetry to the API."""
    coordinator = new_coordinator(config, timing, time.monotonic(), time.time)
    logs.set_process_fields(generation=lambda: coordinator.state.generation)
    shipper = _shipper(config, coordinator)
    service = Service(coordinator, shipper.wake if shipper else _nobody, time.monotonic)
    server = Server(service, config.token)
    # Cancelled handlers are how the end of an idle connection shows at once.
    runner = web.AppRunner(server.application(), handler_cancellation=True, access_log=None)
    await runner.setup()
    site = web.TCPSite(
        runner, bind, config.port, ssl_context=_tls(config), shutdown_timeout=0.2, backlog=_BACKLOG
    )
    await site.start()
    _log.info("listening on port %d (%s)", config.port, "https" if config.certificate else "http")
    if not config.token:
        _log.warning("%s is not set: requests need no token", Env.RUN_TOKEN_FILE)
    tasks = [asyncio.create_task(service.keep_time())]
    if shipper is not None:
        tasks.append(asyncio.create_task(shipper.run()))
    try:
        await wait_for_shutdown(tasks)
    finally:
        server.end()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await runner.cleanup()
    if shipper is not None:
        await shipper.flush(FLUSH)


def new_coordinator(
    config: CoordinatorConfig, timing: Timing, now: float, wall: Callable[[], float]
) -> Coordinator:
    """Return a coordinator without any agents, which begins with the size that is wanted now.

    `now` is monotonic, `wall` the time in reports.
    """
    world = config.outline.world
    membership = new_membership(
        config.epoch,
        world.nodes,
        world.processes_per_node,
        now,
        timing,
        config.outline.legal_sizes(world.min_nodes or world.nodes, world.nodes),
    )
    membership.rank_order = RankOrder.of(config.outline.parallelism, world.processes_per_node)
    coordinator = Coordinator(
        membership,
        TelemetryBuffer(keep=bool(config.api_url)),
        wall=wall,
        legal_sizes=config.outline.legal_sizes,
        directives=admitted_directives(config.outline),
    )
    if config.directives.limits is not None:
        coordinator.progress.total_steps = config.directives.limits.steps
    coordinator.set_directives(config.directives, now)
    return coordinator


def _shipper(config: CoordinatorConfig, coordinator: Coordinator) -> TelemetrySender | None:
    if not config.telemetry_url:
        return None
    run = config.outline.run
    destination = TelemetryDestination(
        config.telemetry_url, config.api_token_file, run.uid, config.epoch, config.api_authorities
    )
    return TelemetrySender(
        coordinator.telemetry, destination, random.Random(), lambda: coordinator.state.closed
    )


def _tls(config: CoordinatorConfig) -> ssl.SSLContext | None:
    if config.certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(config.certificate, config.key)
    return context


async def wait_for_shutdown(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait for SIGTERM or SIGINT; re-raise what ended one of `tasks`, which should run forever.

    A coordinator whose clock task has stopped would answer as if all were well: it is better to have it
    replaced.
    """
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, told.set)
    waiting = asyncio.create_task(told.wait())
    ended, _ = await asyncio.wait({waiting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    for task in ended.intersection(tasks):
        task.result()


def _nobody() -> None:
    """Do nothing: no API is configured."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="coordinator", description=__doc__)
    parser.add_argument("--bind", default=None, help="address to listen on (default: all)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
