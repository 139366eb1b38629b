"""Events of autoscalers about pods that wait for nodes.

cluster-autoscaler writes TriggeredScaleUp for pods for which it adds nodes, Karpenter Nominated.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from footplate_contracts.logs import log_fields
from footplate_operator.errors import ClusterError
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.kinds import CORE_EVENT
from footplate_operator.trainingrun.observation import PodView

ASK_AGAIN: Final = timedelta(seconds=10)
REASONS: Final = ("TriggeredScaleUp", "Nominated")
_log = logging.getLogger(__name__)


@dataclass
class ScaleUps:
    """Scale-up Events about the pods of one run."""

    asked: datetime | None = None
    marks: frozenset[str] = frozenset()  # Events seen, by uid and time
    newest: datetime | None = None  # when one was seen first: clocks of others decide nothing

    async def find(
        self, namespace: str, pods: Sequence[PodView], cluster: Cluster, now: datetime
    ) -> datetime | None:
        """Return when an autoscaler was last seen to add nodes for one of `pods`; None if it never was."""
        waiting = {pod.uid for pod in pods if pod.unbound and pod.unschedulable}
        if not waiting or (self.asked is not None and now - self.asked < ASK_AGAIN):
            return self.newest
        self.asked = now
        try:
            found = [
                event
                for reason in REASONS
                for event in await cluster.find(
                    CORE_EVENT, namespace, fields=f"involvedObject.kind=Pod,reason={reason}"
                )
                if event["involvedObject"].get("uid") in waiting
            ]
        except ClusterError as error:
            _log.debug("events not read", extra=log_fields(error=error))
            return self.newest
        marks = frozenset(f"{event['metadata'].get('uid')} {event.get('count', 1)}" for event in found)
        if marks - self.marks:
            self.newest = now
        self.marks |= marks
        return self.newest
