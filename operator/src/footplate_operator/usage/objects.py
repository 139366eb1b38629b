"""Makes or changes one UsageRecord."""

from __future__ import annotations

from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.kinds import Json
from footplate_operator.usage.writes import USAGE_RECORD, Write


async def put(cluster: Cluster, write: Write) -> Json:
    """The record as it stands then; raises NotFound or AlreadyExists where it was known otherwise."""
    if not write.known:
        return await cluster.create(USAGE_RECORD, write.manifest)
    return await cluster.merge(USAGE_RECORD, "", write.name, {"spec": write.spec})
