"""Starts all reflectors, once the database is known to be this cluster's.

Of two clusters on one database each would take the other's runs for deleted. A cluster's identity is the uid
of its namespace kube-system, which is created with the cluster and restored with a backup of it. Until
Kubernetes answers, the API serves the stored history.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from footplate_api.db.database import Database
from footplate_api.errors import AnotherCluster, ApiError, DatabaseUnavailable
from footplate_api.installation import repository as installation
from footplate_api.instruments import ApiMetrics, MirrorHealth, trouble_key
from footplate_api.kubernetes.client import KubernetesClient
from footplate_api.kubernetes.namespace_scope import NamespaceScope
from footplate_api.mirror.namespaces import NamespaceMirror
from footplate_api.mirror.reflector import Reflector, retry_delay
from footplate_api.mirror.runs import RunMirror
from footplate_api.mirror.tariff import CarbonReflector, PriceReflector, ProfileReflector
from footplate_api.mirror.usage import UsageReflector
from footplate_api.tasks.periodic import attempt

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


async def verify_cluster(
    cluster: KubernetesClient,
    database: Database,
    health: MirrorHealth,
    chance: Callable[[], float] = random.random,
) -> None:
    """Wait until the database is found to be the cluster's; raises AnotherCluster if it is not."""
    here = noted = ""

    async def claim() -> None:
        nonlocal here, noted
        here = await cluster.get_cluster_uid()
        async with database.write() as session:
            noted = await installation.claim(session, here)

    failures = 0
    while error := await attempt(claim, "comparing the cluster with the database's"):
        if isinstance(error, ApiError):
            log.warning("%s", error.detail)
        if not isinstance(error, DatabaseUnavailable):
            unknown = f"The mirror cannot start ({type(error).__name__})."
            health.set_run_trouble(error.detail if isinstance(error, ApiError) else unknown)
        failures += 1
        await asyncio.sleep(retry_delay(failures, chance()))
    if noted != here:
        raise AnotherCluster(
            f"The database holds the history of another cluster, whose namespace kube-system has the uid"
            f" {noted!r}; here it is {here!r}. Set FOOTPLATE_DATABASE_URL to a database for this cluster, or"
            " connect the API to the cluster of this database."
        )
