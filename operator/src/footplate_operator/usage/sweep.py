"""Looks at all UsageRecords now and then, for owners and Nodes that went while nobody looked.

What is over is for the API to take, which deletes it. Where none does, it goes after a while.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from footplate_contracts.logs import fields
from footplate_contracts.names import MANAGED_BY, MANAGED_BY_LABEL
from footplate_ledger.records import moment, written
from footplate_ledger.usage import Owner
from footplate_operator.errors import ClusterError
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.kinds import Json
from footplate_operator.usage.keeper import LOOK_SECONDS, UsageKeeper
from footplate_operator.usage.writes import OVER_SINCE, USAGE_RECORD, over

FIRST_SECONDS: Final = 60  # all owners, pods and Nodes have been told of by then
SWEEP_SECONDS: Final = 3600  # what goes while this replica leads is told
_OURS: Final = f"{MANAGED_BY_LABEL}={MANAGED_BY}"
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Sweeper:
    """Of all records; those that are over and that nobody took go after `kept_for`."""

    cluster: Cluster
    keeper: UsageKeeper
    kept_for: timedelta

    async def run(self) -> None:
        """Keep usage for ever; raises LeadershipLost."""
        began = self.keeper.second()
        due = began + FIRST_SECONDS
        while True:
            if self.keeper.second() - began >= FIRST_SECONDS:
                self.keeper.adopt_strays()
            await self.keeper.tend()
            if self.keeper.second() >= due:
                due = self.keeper.second() + SWEEP_SECONDS
                try:
                    await self.sweep()
                except ClusterError as error:
                    due = self.keeper.second() + FIRST_SECONDS
                    _log.warning("records of usage cannot be looked at", extra=fields(error=error))
            await asyncio.sleep(LOOK_SECONDS)

    async def sweep(self) -> None:
        """Look once; raises ClusterError."""
        needed: set[str] = set()  # Nodes of owners that are there
        names: dict[str, str] = {}  # of Nodes that have a record
        for body in await self.cluster.find(USAGE_RECORD, "", labels=_OURS):
            spec = body.get("spec", {})
            if spec.get("over"):
                await self._retire(body)
            elif "owner" in spec:
                pods = spec.get("pods") or {}
                needed |= {pod["node"] for pod in pods.values()}
                self._look_at(Owner(**spec["owner"]), any("end" not in pod for pod in pods.values()))
            else:
                names |= {uid: node["name"] for uid, node in (spec.get("nodes") or {}).items()}
        for uid in await self.keeper.nodes.tidy(names, needed):
            await self._say_over(f"node-{uid}")

    def _look_at(self, owner: Owner, is_open: bool) -> None:
        if owner.uid not in self.keeper.kept and (is_open or owner.uid not in self.keeper.there):
            self.keeper.adopt(owner)

    async def _retire(self, body: Json) -> None:
        metadata = body["metadata"]
        since = (metadata.get("annotations") or {}).get(OVER_SINCE)
        if since is None:
            await self._say_over(metadata["name"])
        elif self.keeper.second() - moment(since) >= self.kept_for.total_seconds():
            await self.cluster.delete(USAGE_RECORD, "", metadata["name"], metadata["uid"])

    async def _say_over(self, name: str) -> None:
        await self.cluster.merge(USAGE_RECORD, "", name, over(written(self.keeper.second())))
