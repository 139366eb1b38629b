"""API server calls for usage: UsageRecords, and checks that an object still exists."""

from __future__ import annotations

from footplate_operator.errors import ClusterError, NotFound
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.kinds import Json, Kind
from footplate_operator.usage.writes import USAGE_RECORD, RecordWrite


async def write_record(cluster: Cluster, write: RecordWrite) -> Json:
    """Write a record and return it; raises NotFound or AlreadyExists where `write.known` is wrong."""
    if not write.known:
        return await cluster.create(USAGE_RECORD, write.manifest)
    return await cluster.merge(USAGE_RECORD, "", write.name, {"spec": write.spec})


async def get_record(cluster: Cluster, name: str) -> Json:
    """Return the record of this name; raises NotFound."""
    body = await cluster.get(USAGE_RECORD, "", name)
    if body.get("metadata", {}).get("name") != name:
        raise ClusterError(f"the API server returned another object for UsageRecord {name}")
    return body


async def get_by_uid(cluster: Cluster, kind: Kind, namespace: str, name: str, uid: str) -> Json | None:
    """Return the object with this uid; None where it is gone, or another one has its name."""
    try:
        body = await cluster.get(kind, namespace, name)
    except NotFound:
        return None
    return body if body["metadata"]["uid"] == uid else None
