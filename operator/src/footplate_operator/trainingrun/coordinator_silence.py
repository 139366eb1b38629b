"""Distinguishes a silent coordinator from an operator that reaches none.

If no coordinator answers, the fault may be the operator's. The Lease of a coordinator's node
decides: its kubelet renews it through the API server, which the operator reaches by another path.
Leases are read only then, and their times are not compared with others: they are by the node's clock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from footplate_contracts.logs import log_fields
from footplate_contracts.names import RunUid
from footplate_operator.errors import ClusterError, NotFound, RequestForbidden
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.kinds import LEASE
from footplate_operator.trainingrun.coordinator_client import CoordinatorMonitor
from footplate_operator.trainingrun.observation import PodView
from footplate_operator.trainingrun.status.disturbance import SILENT_SECONDS

NODE_LEASES: Final = "kube-node-lease"  # the namespace where kubelets keep them
RENEWALS: Final = 4  # a kubelet renews its Lease four times in leaseDurationSeconds
LATE_RENEWALS: Final = 2
SLACK: Final = timedelta(seconds=2)
AGAIN: Final = timedelta(seconds=2)  # between two looks at a Lease
GAP: Final = timedelta(seconds=10)  # without an answer of the API server, which kubelets may not reach either
_ANSWER_SECONDS: Final = 2.0
_REFUSED: Final = timedelta(minutes=5)  # a right that is missing stays so for a while
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Sight:
    """Last observed state of a Lease."""

    renewed: str
    since: datetime  # when it was first seen so
    read: datetime
    duration: float  # seconds

    @property
    def is_late(self) -> bool:
        """True if two renewals were missed between its first and its last read."""
        return self.read - self.since >= timedelta(seconds=self.duration / RENEWALS * LATE_RENEWALS) + SLACK


class SilenceDetector:
    """Silence of all runs' coordinators."""

    def __init__(self, cluster: Cluster, coordinators: CoordinatorMonitor) -> None:
        self._cluster = cluster
        self._coordinators = coordinators
        self._leases: dict[str, _Sight] = {}  # by node
        self._resumes: datetime | None = None  # before that nothing is read

    async def find(self, uid: RunUid, pods: Iterable[PodView], now: datetime) -> float:
        """Return the seconds since the run's coordinator last answered; 0 if its silence proves nothing."""
        silence = self._coordinators.silence(uid)
        listened, unanswered = self._coordinators.unanswered(uid)
        if silence or unanswered < SILENT_SECONDS:
            return silence
        node = next((pod.node for pod in pods if pod.uid == listened), "")
        return unanswered if node and await self._is_lost(node, now) else silence

    async def _is_lost(self, node: str, now: datetime) -> bool:
        known = self._leases.get(node)
        if known is None or now - known.read >= AGAIN:
            await self._read(node, now)
        return (found := self._leases.get(node)) is not None and found.is_late

    async def _read(self, node: str, now: datetime) -> None:
        self._leases = {name: seen for name, seen in self._leases.items() if now - seen.read < GAP}
        if self._resumes is not None and now < self._resumes:
            return
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                spec = (await self._cluster.get(LEASE, NODE_LEASES, node)).get("spec", {})
        except NotFound:
            self._leases.pop(node, None)
            return
        except RequestForbidden as error:
            self._resumes = now + _REFUSED
            _log.warning("cannot read the Leases of nodes", extra=log_fields(error=error))
            return
        except (ClusterError, TimeoutError):
            return  # nothing new is known
        renewed, duration = str(spec.get("renewTime", "")), float(spec.get("leaseDurationSeconds") or 40)
        known = self._leases.get(node)
        since = known.since if known is not None and known.renewed == renewed else now
        self._leases[node] = _Sight(renewed, since, now, duration)
