"""Compares the cluster's identity with the database's before anything is mirrored.

Of two clusters on one database each would take the other's runs for deleted. A cluster's identity is the uid
of its namespace kube-system, which is created with the cluster and restored with a backup of it. Until
Kubernetes answers, the API serves the stored history.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from footplate_api.background.reflector import retry_delay
from footplate_api.database import Database
from footplate_api.errors import AnotherCluster, ApiError, DatabaseUnavailable
from footplate_api.installation import repository as installation
from footplate_api.instruments import MirrorHealth
from footplate_api.kubernetes_client import KubernetesClient

log = logging.getLogger(__name__)


async def verify_cluster(
    cluster: KubernetesClient,
    database: Database,
    health: MirrorHealth,
    chance: Callable[[], float] = random.random,
) -> None:
    """Wait until the database is found to be the cluster's; raises AnotherCluster if it is not."""
    failures = 0
    while True:
        try:
            await _compare(cluster, database)
        except DatabaseUnavailable as error:
            log.warning("%s", error.detail)
        except ApiError as error:
            log.warning("%s", error.detail)
            health.set_run_trouble(error.detail)
        except AnotherCluster:
            raise
        except Exception as error:  # the edge of the task: nobody would start it again
            log.exception("the cluster could not be told from others")
            health.set_run_trouble(f"The mirror cannot begin ({type(error).__name__}).")
        else:
            return
        failures += 1
        await asyncio.sleep(retry_delay(failures, chance()))


async def _compare(cluster: KubernetesClient, database: Database) -> None:
    here = await cluster.get_cluster_uid()
    async with database.write() as session:
        noted = await installation.claim(session, here)
    if noted != here:
        raise AnotherCluster(
            f"The database holds the history of another cluster: of the one whose namespace kube-system has"
            f" the uid {noted!r}, while this one's has {here!r}. Give this cluster a database of its own"
            " (FOOTPLATE_DATABASE_URL), or let the API reach the cluster that this one belongs to."
        )
