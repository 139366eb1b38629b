"""Starts all reflectors, once the database is known to be this cluster's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from footplate_api.database import Database
from footplate_api.errors import AnotherCluster
from footplate_api.observation import Metrics, MirrorHealth, titled
from footplate_api.pipelines.following import Follower
from footplate_api.pipelines.mirror import Mirror
from footplate_api.pipelines.namespaces import NamespaceMirror
from footplate_api.pipelines.recognition import recognised
from footplate_api.pipelines.tariff import CarbonFollower, PriceFollower, ProfileFollower
from footplate_api.pipelines.usage import UsageFollower
from footplate_api.ports import Cluster
from footplate_api.served import Served

log = logging.getLogger(__name__)

OF_PLACES: Final[Sequence[type[Follower]]] = (NamespaceMirror, Mirror)
OF_THE_CLUSTER: Final[Sequence[type[Follower]]] = (PriceFollower, CarbonFollower, ProfileFollower)


async def follow(
    cluster: Cluster,
    database: Database,
    metrics: Metrics,
    health: MirrorHealth,
    now: Callable[[], datetime],
    served: Served,
) -> None:
    """Run all reflectors until cancelled; set `health.refusal` and return on another cluster's database."""
    try:
        await recognised(cluster, database, health)
    except AnotherCluster as error:
        log.error("%s", error)
        health.refuse(str(error))
        return
    own = (database, metrics, health, now)
    followers: list[Follower] = [follower(cluster, *own) for follower in OF_THE_CLUSTER]
    followers.append(UsageFollower(cluster, *own, served=served))
    for place in served.places:
        shown = cluster.within(place) if place else cluster
        followers += [follower(shown, *own, place=place) for follower in OF_PLACES]
    async with asyncio.TaskGroup() as group:
        for follower in followers:
            group.create_task(follower.run(), name=titled(follower.kind, follower.place))
