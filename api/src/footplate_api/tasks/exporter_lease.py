"""Lease by which one of several replicas on a database exports the runs' gauges, or each sum would double.

The exporter holds a lease in the database, renewed every few seconds. The database's clock alone counts its
time, so no two machines' clocks are compared; and a scrape queries whether its replica holds the lease now,
so a replica that was frozen, or cut off and came back, exports nothing from memory. A session-level advisory
lock would need no clock, but it ends only when the server notices that its client is gone: for a node that
lost its power that is TCP's keepalive, two hours by default, and a pooler between them may assign the session
to another client. A SQLite file has one process, which always exports: nothing is written there, so a full
volume does not stop the gauges.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from footplate_api.db.database import Database
from footplate_api.errors import ApiError
from footplate_api.system import repository
from footplate_api.tasks.periodic import Periodic

# A replica that died is replaced after at most both together.
LEASE: Final = timedelta(seconds=15)
RENEW_SECONDS: Final = 5.0

log = logging.getLogger(__name__)


@dataclass
class ExporterLease:
    """Background task that claims and renews one replica's lease."""

    database: Database
    replica: str
    lease: timedelta = LEASE
    renew_seconds: float = RENEW_SECONDS
    _held: bool = field(default=False, init=False)

    async def run(self) -> None:
        """Renew the lease until cancelled, then release it; return at once on SQLite."""
        if not repository.is_shared(self.database.engine.dialect):
            return
        try:
            await Periodic(self._claim, self.renew_seconds, "claiming the gauges of runs").run()
        finally:
            with suppress(ApiError):
                async with self.database.write() as session:
                    await repository.release(session, self.replica)

    async def _claim(self) -> None:
        async with self.database.write() as session:
            holds = await repository.claim(session, self.replica, self.lease)
        if holds != self._held:
            log.info("this replica %s the gauges of runs", "exports" if holds else "no longer exports")
        self._held = holds
