"""All that is followed in Kubernetes, once it is known whose cluster it is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from footplate_api.database import Database
from footplate_api.errors import AnotherCluster
from footplate_api.observation import Metrics, MirrorHealth
from footplate_api.pipelines.following import Follower
from footplate_api.pipelines.mirror import Mirror
from footplate_api.pipelines.namespaces import NamespaceMirror
from footplate_api.pipelines.recognition import recognised
from footplate_api.pipelines.tariff import CarbonFollower, PriceFollower, ProfileFollower
from footplate_api.pipelines.usage import UsageFollower
from footplate_api.ports import Cluster

log = logging.getLogger(__name__)

FOLLOWERS: Final[Sequence[type[Follower]]] = (
    NamespaceMirror,
    Mirror,
    PriceFollower,
    CarbonFollower,
    ProfileFollower,
    UsageFollower,
)


async def follow(
    cluster: Cluster, database: Database, metrics: Metrics, health: MirrorHealth, now: Callable[[], datetime]
) -> None:
    """Follows until cancelled; returns, with `health.refusal` said, where the database is another's."""
    try:
        await recognised(cluster, database, health)
    except AnotherCluster as error:
        log.error("%s", error)
        health.refuse(str(error))
        return
    async with asyncio.TaskGroup() as group:
        for mirror in FOLLOWERS:
            group.create_task(mirror(cluster, database, metrics, health, now).run(), name=mirror.kind)
