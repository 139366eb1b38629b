"""`python -m footplate_operator`: reads the environment, acquires the Lease, reconciles until SIGTERM."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, Final

import kopf

from footplate_contracts import environment, logs
from footplate_contracts.logs import log_fields
from footplate_contracts.loop_lag import LoopLag
from footplate_contracts.tls_buffers import limit_tls_buffers
from footplate_operator.api_access import ApiAccess
from footplate_operator.certificates.reconciler import CertificateReconciler
from footplate_operator.errors import ClusterError, NotFound, OperatorError, RequestForbidden
from footplate_operator.keys.keyring import Keyring
from footplate_operator.runtime import handlers
from footplate_operator.runtime.actor import Actor
from footplate_operator.runtime.cache import Cache
from footplate_operator.runtime.clock import SteadyClock
from footplate_operator.runtime.cluster import Cluster, KubernetesCluster, login
from footplate_operator.runtime.controller import Controller
from footplate_operator.runtime.fence import FencedCluster
from footplate_operator.runtime.kinds import Kind
from footplate_operator.runtime.leader import Leadership
from footplate_operator.runtime.metrics import Metrics, application, serving
from footplate_operator.runtime.objects import Key
from footplate_operator.runtime.reconcile import Reconciler
from footplate_operator.runtime.status_writer import StatusWriter
from footplate_operator.runtime.watch_liveness import WatchLiveness, watch_paths
from footplate_operator.runtime.workqueue import WorkQueue
from footplate_operator.services import Services
from footplate_operator.settings import Settings
from footplate_operator.trainingrun.controller import TrainingRunController
from footplate_operator.trainingrun.factory import training_runs
from footplate_operator.usage.recorder import UsageRecorder

ControllerType = type[Controller[Any, Any, Any]]
NewController = Callable[[Services, Settings], AbstractAsyncContextManager[Controller[Any, Any, Any]]]
KINDS: Final[Mapping[ControllerType, NewController]] = {
    TrainingRunController: lambda services, own: training_runs(services, own.defaults)
}

_log = logging.getLogger("footplate_operator")
_DISCOVERY_SECONDS: Final = 1.0
_REFUSED_TRIES: Final = 3  # a right that was given just now is in force in a moment
_FAILING_TRIES: Final = 30
_NONE: Final = "metadata.name=none"  # whether a kind can be listed, without its objects
_LEAVE_SECONDS: Final = 3.0  # for what was cancelled to end


def main(kinds: Mapping[ControllerType, NewController] = KINDS) -> int:
    """Return the exit code: 0 after SIGTERM, 78 for settings that cannot work, 1 otherwise."""
    try:
        own = environment.read_settings(Settings)
    except ValueError as error:
        print(f"footplate-operator: {error}", file=sys.stderr)
        return 78
    logs.configure("footplate_operator", level=own.log_level, log_format=own.log_format)
    limit_tls_buffers()
    try:
        asyncio.run(operate(own, kinds))
    except OperatorError as error:
        _log.error("ended", extra=log_fields(error=error))
        return 1
    return 0


@dataclass(frozen=True, eq=False)
class _Kind:
    """Queue, handlers and workers of one kind."""

    queue: WorkQueue[Key]
    handlers: handlers.Handlers
    work: Callable[[], Coroutine[Any, Any, None]]

    @property
    def watched(self) -> list[Kind]:
        """All kinds that are watched for this kind."""
        return list(self.handlers.watches())

    @property
    def hints(self) -> frozenset[Kind]:
        """The watched kinds that it can do without."""
        return frozenset(self.handlers.controller.hints)


@dataclass(eq=False)
class _Replica:
    """This replica's state for metrics and probes."""

    metrics: Metrics
    served: Sequence[_Kind]
    sight: WatchLiveness
    lag: LoopLag = field(default_factory=LoopLag)
    leading: bool = False
    missing: str = ""  # what it waits for before it can lead

    def bring_up_to_date(self) -> None:
        """Set the gauges."""
        self.metrics.leading.set(self.leading)
        self.metrics.depth.set(sum(len(kind.queue) for kind in self.served))
        self.metrics.loop_lag.set(self.lag.longest)
        for name, age in self.sight.silence_seconds().items():
            self.metrics.watch_heard.labels(name).set(time.time() - age)
        if self.leading:
            for kind in self.served:
                kind.handlers.controller.hooks.update_gauges(kind.handlers.cache.count)

    def unready(self) -> str:
        """Return why this replica is not ready; empty while it is."""
        return self.missing or self.sight.describe_silence()

    def without(self) -> str:
        """Return the kinds that it may not watch and can do without."""
        return ", ".join(sorted({kind.name for own in self.served for kind in own.handlers.unseen}))


async def operate(own: Settings, kinds: Mapping[ControllerType, NewController]) -> None:
    """Run until SIGTERM or SIGINT; raises OperatorError where that is impossible."""
    stop = asyncio.Event()
    _listen_for_signals(stop)
    metrics, now = Metrics(), SteadyClock()
    async with AsyncExitStack() as stack:
        cluster = KubernetesCluster(await login(), metrics.count_request)
        stack.push_async_callback(cluster.close)
        # Of its own: calls that hang must not keep the Lease from being renewed.
        lease = KubernetesCluster(await login(), metrics.count_request)
        stack.push_async_callback(lease.close)
        leadership = Leadership(lease, own.namespace, own.lease_name, own.identity, own.lease_seconds, now)
        fenced = FencedCluster(cluster, leadership.check)
        keeper = CertificateReconciler(fenced, own.certificate_names, now, own.external_ca_bundle)
        bundle = (lambda: keeper.bundle) if own.manages_certificates else (lambda: None)
        api = ApiAccess(own.api_url, own.api_token_file, bundle)
        keys = Keyring(fenced, own.keys)
        owners = [controller.kind for controller in kinds]
        usage = UsageRecorder(fenced, now, owners, timedelta(days=own.usage_retention_days), own.scope)
        shared = partial(Services, fenced, now, api=api, scope=own.scope, usage=usage, credentials=keys)
        served = [await _serve(new, shared, metrics, own, stack) for new in kinds.values()]
        watched = [kind for own_kind in served for kind in own_kind.watched]
        hints = frozenset(kind for own_kind in served for kind in own_kind.hints)
        replica = _Replica(
            metrics, served, WatchLiveness(watch_paths(watched, own.watch_namespaces), hints=hints)
        )
        app = application(metrics, replica.bring_up_to_date, replica.unready, replica.without)
        await stack.enter_async_context(serving(app, own.metrics_port))
        measuring = asyncio.create_task(replica.lag.measure())
        stack.callback(measuring.cancel)
        await _first_of(stop, _wait_for_kinds(cluster, replica, own))
        stack.push_async_callback(leadership.release)  # before it is ours: it may become so as we are ended
        await _first_of(stop, leadership.acquire())
        if stop.is_set():
            return
        replica.leading = True
        _log.info("leading", extra=log_fields(identity=own.identity, namespace=own.namespace))
        works = [*(kind.work() for kind in served), usage.run()]
        if own.manages_certificates:
            await keeper.begin()
            works.append(keeper.run())
        await keys.begin()
        works.append(keys.run())
        replica.sight.begin()
        await _first_of(
            stop,
            _watch(replica, own, stop),
            replica.sight.check_forever(),
            leadership.renew_forever(),
            *works,
        )
        if not stop.is_set():
            raise OperatorError("the watches ended unexpectedly")


async def _serve(
    new: NewController,
    shared: Callable[..., Services],
    metrics: Metrics,
    own: Settings,
    stack: AsyncExitStack,
) -> _Kind:
    """Return the queue, handlers and workers of a kind, until `stack` ends."""
    queue: WorkQueue[Key] = WorkQueue(random.Random(), metrics.waited.observe)
    services = shared(requeue=queue.add, registry=metrics.registry)
    controller = await stack.enter_async_context(new(services, own))
    cluster, now, cache = services.cluster, services.clock, Cache(controller)
    actor = Actor(controller, cluster, cache)
    writer = StatusWriter(controller, cluster, cache, queue, now, own.identity)
    reconciler = Reconciler(controller, cluster, cache, queue, actor, writer, now, own.resync_seconds)
    work = partial(queue.run, own.workers, metrics.instrument(reconciler))
    return _Kind(queue, handlers.Handlers(controller, cache, queue), work)


async def _wait_for_kinds(cluster: Cluster, replica: _Replica, own: Settings) -> None:
    """Wait until every kind can be listed: kopf looks only once for the kinds that it may watch."""
    namespace = own.watch_namespaces[0] if own.watch_namespaces else ""
    for served, kind in [(worker, kind) for worker in replica.served for kind in worker.watched]:
        for tries in itertools.count(1):
            try:
                await cluster.find(kind, namespace if kind.namespaced else "", fields=_NONE)
                break
            except ClusterError as error:
                most = _REFUSED_TRIES if isinstance(error, (RequestForbidden, NotFound)) else _FAILING_TRIES
                if kind in served.hints and tries >= most:
                    _log.warning("continuing without a kind", extra=log_fields(kind=kind.name, error=error))
                    served.handlers.unseen.add(kind)
                    replica.sight.remove_kind(kind)
                    break
                if not replica.missing.startswith(kind.name):
                    about = log_fields(kind=kind.name, error=error)
                    _log.warning("waiting for the API server to serve a kind", extra=about)
                replica.missing = f"{kind.name} cannot be listed: {error}"
                await asyncio.sleep(_DISCOVERY_SECONDS)
    replica.missing = ""


async def _first_of(stop: asyncio.Event, *works: Coroutine[Any, Any, None]) -> None:
    """Run all `works` until one ends or `stop` is set; re-raise what ended it."""
    tasks = [asyncio.create_task(work) for work in works]
    waiting = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait({*tasks, waiting}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (waiting, *tasks):
            task.cancel()
        await asyncio.wait(tasks, timeout=_LEAVE_SECONDS)


def _listen_for_signals(stop: asyncio.Event) -> None:
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)


async def _watch(replica: _Replica, own: Settings, stop: asyncio.Event) -> None:
    """Run kopf.operator without its signal handlers, which end kopf only after seconds, not the process."""
    before, told = asyncio.all_tasks(), [kind.handlers for kind in replica.served]
    tasks = await kopf.spawn_tasks(
        registry=handlers.registry(told, replica.sight.record_answer, replica.metrics.count_request),
        settings=handlers.settings(told),
        standalone=True,
        clusterwide=not own.watch_namespaces,
        namespaces=list(own.watch_namespaces),
    )
    _listen_for_signals(stop)  # at once: the last that spawn_tasks did was to put its own in place
    await kopf.run_tasks(tasks, ignored=before)


if __name__ == "__main__":
    sys.exit(main())
