"""What the operator remembers of a run beside its status: nothing that may not be forgotten."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from footplate_contracts.logs import fields
from footplate_contracts.names import Reason
from footplate_operator.errors import ClusterError
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.kinds import CORE_EVENT
from footplate_operator.trainingrun.observed import Credentials, PodView
from footplate_operator.trainingrun.policies.diagnosis import diagnose

MOUNT_SECONDS: Final = 4.0  # a pod that waits longer than this is asked about
_log = logging.getLogger(__name__)


@dataclass
class RunCache:
    """Of one run."""

    # Kept though the Secret is deleted: it comes back as it was, since pods have read it already.
    credentials: Credentials | None = None
    mounts: dict[str, tuple[datetime, str]] = field(default_factory=dict)  # pod uid -> asked, told
    held: dict[str, tuple[datetime, Reason]] = field(default_factory=dict)  # pod uid -> since, by what

    async def complete(self, pod: PodView, cluster: Cluster, now: datetime) -> PodView:
        """`pod` with what it does not say: why its volumes cannot be mounted, and since when it waits."""
        told = await self._mount_error(pod, cluster, now)
        seen = replace(pod, mount_error=told) if told else pod
        since = self._held_since(seen, now)
        return replace(seen, held_since=since) if since else seen

    async def _mount_error(self, pod: PodView, cluster: Cluster, now: datetime) -> str:
        """That stands in Events only."""
        on_its_way = pod.live and bool(pod.node) and not pod.started
        if not on_its_way or now - pod.created < timedelta(seconds=MOUNT_SECONDS):
            return ""
        asked = self.mounts.get(pod.uid)
        if asked is not None and now - asked[0] < timedelta(seconds=MOUNT_SECONDS):
            return asked[1]
        selector = f"involvedObject.uid={pod.uid},reason=FailedMount"
        try:
            found = await cluster.find(CORE_EVENT, pod.namespace, fields=selector)
        except ClusterError as error:
            level = logging.WARNING if asked is None else logging.DEBUG  # once a pod is enough
            _log.log(level, "events not read", extra=fields(pod=pod.name, error=error))
            found = []
        newest = max(found, key=lambda event: str(event.get("lastTimestamp") or ""), default=None)
        told = str(newest.get("message", ""))[:900] if newest else ""
        self.mounts[pod.uid] = (now, told)
        return told

    def _held_since(self, pod: PodView, now: datetime) -> datetime | None:
        """Since when `pod` waits for what it waits for; None for one that is merely on its way."""
        found = diagnose(pod)
        if found is None:
            self.held.pop(pod.uid, None)
            return None
        known = self.held.get(pod.uid)
        if known is None or known[1] is not found.reason:
            known = self.held[pod.uid] = (now, found.reason)
        return known[0]
