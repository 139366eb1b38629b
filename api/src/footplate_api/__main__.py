"""Entry point of `python -m footplate_api`: serves until SIGTERM, then finishes the requests in flight."""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import uvicorn

from footplate_api import settings
from footplate_api.app import create_app
from footplate_api.app_context import AppContext
from footplate_api.backups.restoration import clear_restore_record
from footplate_api.db.database import Database
from footplate_api.db.database_lock import sole_writer
from footplate_api.errors import MigrationFailed
from footplate_api.http.certificate import Certificate
from footplate_api.http.connection_limits import ConnectionLimits
from footplate_api.http.connections import LimitedHttpProtocol, ServerEventLoop
from footplate_api.http.startup import Startup
from footplate_api.identity.authentication import TokenIssuer
from footplate_api.identity.oidc.config import OidcConfig
from footplate_api.identity.reviews import KubernetesReviewer
from footplate_api.instruments import ApiMetrics, MirrorHealth
from footplate_api.kubernetes import http as kubernetes_http
from footplate_api.kubernetes.namespace_scope import NamespaceScope
from footplate_api.settings import ApiSettings
from footplate_contracts import environment, logs
from footplate_contracts.names import ExitCode

GRACE_SECONDS = 10  # below the 30 s that Kubernetes gives
# Of a connection, before it is closed: longer than senders gather, and than their clients keep one (15 s), or
# a batch meets a connection that is being closed.
KEEP_ALIVE_SECONDS = 30
_MMAP_THRESHOLD = -3  # of glibc's mallopt(3)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m footplate_api",
        description="Serves the history of TrainingRuns.",
        epilog="Environment: FOOTPLATE_DATABASE_URL, FOOTPLATE_API_HOST, FOOTPLATE_API_PORT,"
        " FOOTPLATE_TLS_CERTIFICATE_FILE, FOOTPLATE_TLS_KEY_FILE,"
        " FOOTPLATE_REVISION, FOOTPLATE_LOG_LEVEL, FOOTPLATE_LOG_FORMAT.",
    )
    parser.add_argument("--host", help="address to bind; default: all addresses in a pod, else 127.0.0.1")
    parser.add_argument("--port", type=settings.port, help=f"TCP port; default: {settings.DEFAULT_PORT}")
    parser.add_argument("--kubeconfig", type=Path, help="default: the pod's own, else kubectl's kubeconfig")
    levels = get_args(settings.LogLevel)
    parser.add_argument("--log-level", choices=levels, help="default: FOOTPLATE_LOG_LEVEL, else INFO")
    return parser.parse_args(argv)


def _collect_less_often() -> None:
    """Raise the thresholds of the garbage collector, which found nothing and took half the time of an ingest.

    A batch of telemetry is 15,000 objects, all freed with the response and none in a cycle, and Python's
    default looks for cycles every 700 objects. But each request leaves a cycle behind, so that a fleet's
    requests must not pile up for long before a full collection.
    """
    gc.collect()
    gc.freeze()  # what is imported stays
    gc.set_threshold(20_000, 5, 5)


def _return_buffers() -> None:
    """Make glibc return buffers of closed connections to the system, not keep them in its heap."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_MMAP_THRESHOLD, 128 * 1024)


class _Server(uvicorn.Server):
    """Uvicorn server that does not re-raise the signal after a clean end, so that the pod exits with 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


async def _serve(
    server: uvicorn.Server, startup: Startup, mirror: MirrorHealth, certificate: Certificate | None
) -> None:
    """Run the server until a signal, a failed start, or a database that is another cluster's.

    Raises MigrationFailed, or ValueError where the database is another cluster's.
    """

    async def end_on_failure() -> None:
        await startup.wait()
        if startup.failure is None:
            await mirror.refused.wait()
        server.should_exit = True

    beside = [asyncio.create_task(end_on_failure())]
    if certificate is not None:
        beside.append(asyncio.create_task(certificate.watch_files()))
    await server.serve()
    for task in beside:
        task.cancel()
    if startup.failure is not None:
        raise startup.failure
    if mirror.refusal is not None:
        raise ValueError(mirror.refusal)


def _issuers(oidc: OidcConfig | None) -> tuple[TokenIssuer, ...]:
    """Return the OIDC issuer's authenticator, if one is configured.

    Raises ValueError where the certificates in the issuer's file cannot be used.
    """
    if oidc is None:
        return ()
    # Imported here: the cryptography takes 10 MB, which an installation without an issuer need not spend.
    from footplate_api.identity.oidc.discovery import OidcDiscovery
    from footplate_api.identity.oidc.issuer import OidcIssuer

    return (OidcIssuer(oidc, OidcDiscovery(oidc).fetch_keys),)


async def serve(chosen: ApiSettings, kubeconfig: Path | None) -> None:
    """Connect to Kubernetes and the database, and serve until a signal.

    Raises ValueError where it would serve in clear text, no cluster is configured, the issuer's certificates
    cannot be read, or the database cannot be used or is another cluster's; MigrationFailed where the database
    cannot be migrated to this release's schema.
    """
    issuers, backups = _issuers(chosen.oidc), chosen.backups
    files = chosen.certificate
    certificate = Certificate(files, chosen.tls_look_seconds) if files is not None else None
    kubernetes = await kubernetes_http.connect(kubeconfig, chosen.in_pod)
    try:
        database = Database(chosen.database_url)
        served = NamespaceScope(chosen.watch_namespaces, chosen.cluster_scoped)
        context = AppContext(
            database,
            kubernetes,
            KubernetesReviewer(kubernetes),
            ApiMetrics(),
            MirrorHealth.of(served.watched_namespaces),
            revision=chosen.revision,
            limits=chosen.limits,
            body_timeout=chosen.body_timeout,
            access=chosen.access,
            served=served,
            issuers=issuers,
            room=chosen.database_size,
            backups=backups,
        )
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ServerEventLoop)
        loop.connection_limits = ConnectionLimits(loop, context.metrics)
        config = uvicorn.Config(
            create_app(context),
            http=LimitedHttpProtocol,
            host=chosen.api_host,
            port=chosen.api_port,
            log_config=None,
            access_log=False,  # the middleware logs, with request ids
            timeout_graceful_shutdown=GRACE_SECONDS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            ssl_context_factory=(lambda *_: certificate.context) if certificate is not None else None,
        )
        _collect_less_often()
        _return_buffers()
        with sole_writer(chosen.database_url):
            if chosen.restore_from is None and chosen.database_file is not None:
                clear_restore_record(chosen.database_file)
            await _serve(_Server(config), context.startup, context.mirror, certificate)
    finally:
        await kubernetes.close()


def main(argv: list[str] | None = None) -> int:
    """Run the program; return 78 for an invalid configuration, 1 if the migration failed."""
    arguments = _arguments(argv)
    try:
        chosen = environment.read_settings(ApiSettings)
        level = arguments.log_level or chosen.log_level
        logs.configure("footplate_api", "uvicorn", level=level, log_format=chosen.log_format)
        given = {"api_host": arguments.host, "api_port": arguments.port}
        chosen = chosen.model_copy(update={name: value for name, value in given.items() if value})
        with asyncio.Runner(loop_factory=ServerEventLoop) as runner:
            runner.run(serve(chosen, arguments.kubeconfig))
    except ValueError as error:
        print(f"footplate-api: {error}", file=sys.stderr)
        return ExitCode.CONFIG
    except MigrationFailed as error:
        print(f"footplate-api: {error}", file=sys.stderr)
        return 1
    return ExitCode.SUCCESS


if __name__ == "__main__":
    sys.exit(main())
