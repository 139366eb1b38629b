"""Creates the controller of TrainingRuns, with its clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import aiohttp

from footplate_contracts.release import build_version
from footplate_operator.services import Services
from footplate_operator.trainingrun.controller import TrainingRunController
from footplate_operator.trainingrun.coordinator_client import CoordinatorClient, CoordinatorPoller
from footplate_operator.trainingrun.history_client import open_tracker
from footplate_operator.trainingrun.metrics import RunMetrics
from footplate_operator.trainingrun.revision import Defaults

_DISTRIBUTION: Final = "footplate-operator"


@asynccontextmanager
async def training_runs(services: Services, defaults: Defaults) -> AsyncIterator[TrainingRunController]:
    """Open the controller of TrainingRuns, which polls their coordinators for the block."""
    connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        watchers = CoordinatorPoller(
            partial(CoordinatorClient, session), services.requeue, services.cluster.check
        )
        metrics, version = RunMetrics(services.registry), build_version(_DISTRIBUTION)
        try:
            async with open_tracker(session, services.api, services.requeue) as histories:
                yield TrainingRunController(services, watchers, histories, defaults, metrics, version)
        finally:
            await watchers.close()
