"""Starts all reflectors, once the database is known to be this cluster's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from footplate_api.db.database import Database
from footplate_api.errors import AnotherCluster
from footplate_api.instruments import ApiMetrics, MirrorHealth, trouble_key
from footplate_api.kubernetes.client import KubernetesClient
from footplate_api.kubernetes.namespace_scope import NamespaceScope
from footplate_api.mirror.cluster_identity import verify_cluster
from footplate_api.mirror.namespaces import NamespaceMirror
from footplate_api.mirror.reflector import Reflector
from footplate_api.mirror.runs import RunMirror
from footplate_api.mirror.tariff import CarbonReflector, PriceReflector, ProfileReflector
from footplate_api.mirror.usage import UsageReflector

log = logging.getLogger(__name__)

OF_PLACES: Final[Sequence[type[Reflector]]] = (NamespaceMirror, RunMirror)
OF_THE_CLUSTER: Final[Sequence[type[Reflector]]] = (PriceReflector, CarbonReflector, ProfileReflector)


async def run_reflectors(
    cluster: KubernetesClient,
    database: Database,
    metrics: ApiMetrics,
    health: MirrorHealth,
    now: Callable[[], datetime],
    served: NamespaceScope,
) -> None:
    """Run all reflectors until cancelled; set `health.refusal` and return on another cluster's database."""
    try:
        await verify_cluster(cluster, database, health)
    except AnotherCluster as error:
        log.error("%s", error)
        health.request_exit(str(error))
        return
    own = (database, metrics, health, now)
    followers: list[Reflector] = [follower(cluster, *own) for follower in OF_THE_CLUSTER]
    followers.append(UsageReflector(cluster, *own, served=served))
    for place in served.watched_namespaces:
        shown = cluster.in_namespace(place) if place else cluster
        followers += [follower(shown, *own, place=place) for follower in OF_PLACES]
    async with asyncio.TaskGroup() as group:
        for follower in followers:
            group.create_task(follower.run(), name=trouble_key(follower.kind, follower.place))
