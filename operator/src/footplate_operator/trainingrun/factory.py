"""Creates the controller of TrainingRuns, with its clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import aiohttp
from prometheus_client import CollectorRegistry

from footplate_contracts.release import build_version
from footplate_operator.api_access import ApiAccess
from footplate_operator.keys.keyring import CredentialSource
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.objects import Key
from footplate_operator.scope import Scope
from footplate_operator.trainingrun.controller import TrainingRunController
from footplate_operator.trainingrun.coordinator_client import CoordinatorClient, CoordinatorPoller
from footplate_operator.trainingrun.history_client import open_tracker
from footplate_operator.trainingrun.metrics import RunMetrics
from footplate_operator.trainingrun.revision import Defaults

_DISTRIBUTION: Final = "footplate-operator"


@asynccontextmanager
async def training_runs(
    cluster: Cluster,
    requeue: Callable[[Key], None],
    registry: CollectorRegistry,
    defaults: Defaults,
    api: ApiAccess,
    keys: CredentialSource,
    check: Callable[[], None],
    now: Callable[[], datetime],
    usage_kept_for: timedelta,
    scope: Scope,
) -> AsyncIterator[TrainingRunController]:
    """Open the controller of TrainingRuns, which polls their coordinators for the block.

    `check` raises before the operator sends directives, unless this replica leads; `now` is a clock in
    UTC. Unread usage is deleted after `usage_kept_for`; `scope` is what this installation manages.
    """
    connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        watchers = CoordinatorPoller(partial(CoordinatorClient, session), requeue, check)
        metrics, version = RunMetrics(registry), build_version(_DISTRIBUTION)
        try:
            async with open_tracker(session, api, requeue) as histories:
                beside = (defaults, metrics, version, histories, api, keys, now, usage_kept_for, scope)
                yield TrainingRunController(cluster, watchers, *beside)
        finally:
            await watchers.close()
