"""Why volumes cannot be mounted: a pod does not say it, only Events do, which are asked for."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Final

from footplate_contracts.logs import fields
from footplate_operator.errors import ClusterError
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.kinds import CORE_EVENT
from footplate_operator.trainingrun.observed import PodView
from footplate_operator.trainingrun.run_cache import RunCache

MOUNT_SECONDS: Final = 4.0  # a pod that waits longer than this is asked about
_log = logging.getLogger(__name__)


async def mount_error(cache: RunCache, pod: PodView, cluster: Cluster, now: datetime) -> str:
    """Why the volumes of `pod` cannot be mounted; empty where nothing is known."""
    on_its_way = pod.live and bool(pod.node) and not pod.started
    if not on_its_way or now - pod.created < timedelta(seconds=MOUNT_SECONDS):
        return ""
    asked = cache.mounts.get(pod.uid)
    if asked is not None and now - asked[0] < timedelta(seconds=MOUNT_SECONDS):
        return asked[1]
    try:
        found = await cluster.find(
            CORE_EVENT, pod.namespace, fields=f"involvedObject.uid={pod.uid},reason=FailedMount"
        )
    except ClusterError as error:
        level = logging.WARNING if asked is None else logging.DEBUG  # once a pod is enough
        _log.log(level, "events not read", extra=fields(pod=pod.name, error=error))
        found = []
    newest = max(found, key=lambda event: str(event.get("lastTimestamp") or ""), default=None)
    told = str(newest.get("message", ""))[:900] if newest else ""
    cache.mounts[pod.uid] = (now, told)
    return told
