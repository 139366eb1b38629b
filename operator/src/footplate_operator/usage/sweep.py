"""Looks at all UsageRecords now and then, for owners and Nodes that went while nobody looked.

What is over is for the API to take, which deletes it. Where none does, it goes after a while.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from footplate_contracts.logs import fields
from footplate_contracts.names import MANAGED_BY, MANAGED_BY_LABEL
from footplate_contracts.v1alpha1.usagerecord import UsageRecordSpec
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
    _unreadable: set[str] = field(default_factory=set)  # names of records that the log has named

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
            try:
                over_for = self._over_for(body)
                record = UsageRecordSpec.from_any_release(body.get("spec") or {})
            except ValueError as error:
                self._say_unreadable(body, error)
                continue
            if record.over:
                await self._retire(body, over_for)
            elif record.owner is not None:
                needed |= {pod.node for pod in record.pods.values()}
                is_open = any(pod.end is None for pod in record.pods.values())
                self.keeper.adopt_written(Owner(**record.owner.to_json()), is_open)
            else:
                names |= {uid: node.name for uid, node in record.nodes.items()}
            await asyncio.sleep(0)  # one with hundreds of pods takes milliseconds to read
        for uid in await self.keeper.nodes.tidy(names, needed):
            await self._say_over(f"node-{uid}")

    def _over_for(self, body: Json) -> int | None:
        """Seconds since it was said to be over; None: nobody has said since when."""
        since = (body["metadata"].get("annotations") or {}).get(OVER_SINCE)
        return None if since is None else self.keeper.second() - moment(since)

    def _say_unreadable(self, body: Json, error: ValueError) -> None:
        name = body["metadata"]["name"]
        level = logging.DEBUG if name in self._unreadable else logging.WARNING
        self._unreadable.add(name)
        _log.log(level, "a record cannot be read, and is left alone", extra=fields(name=name, error=error))

    async def _retire(self, body: Json, over_for: int | None) -> None:
        metadata = body["metadata"]
        if over_for is None:
            await self._say_over(metadata["name"])
        elif over_for >= self.kept_for.total_seconds():
            await self.cluster.delete(USAGE_RECORD, "", metadata["name"], metadata["uid"])

    async def _say_over(self, name: str) -> None:
        await self.cluster.merge(USAGE_RECORD, "", name, over(written(self.keeper.second())))
