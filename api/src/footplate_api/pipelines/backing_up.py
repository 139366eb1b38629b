"""Has back-ups of the SQLite file made on schedule, each by a process of its own (`footplate_api.backups`).

When the newest was made is told by the folder alone, so that a process that has just begun knows it too: what
came due while none ran is made up for. One that fails is tried again, less and less often; that it failed is
counted and logged, and is no trouble of the API's.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from footplate_api.backups import names
from footplate_api.backups.durable import listed
from footplate_api.backups.plan import BackupPlan
from footplate_api.observation import BackupMetrics
from footplate_api.revisions import DATABASE_URL
from footplate_contracts.backoff import backoff
from footplate_contracts.logs import fields

LOOK_SECONDS: Final = 30.0  # a clock may be set, and somebody may make or delete one by hand
FIRST_RETRY_SECONDS: Final = 60.0
LONGEST_RETRY_SECONDS: Final = 3600.0

log = logging.getLogger(__name__)


@dataclass
class BackingUp:
    """One task for the life of the process."""

    url: str  # of the SQLite file
    plan: BackupPlan
    metrics: BackupMetrics
    now: Callable[[], datetime]

    async def run(self) -> None:
        """Makes what is due until cancelled."""
        failures = 0
        while True:
            wait = LOOK_SECONDS
            try:
                newest = await asyncio.to_thread(self.look)
                due = self.plan.due(newest, self.now())
                if due <= self.now():
                    failures = 0 if await self.make() else failures + 1
                    wait = _pause(failures) if failures else LOOK_SECONDS
                    await asyncio.to_thread(self.look)
                else:
                    failures = 0
                    wait = min(LOOK_SECONDS, (due - self.now()).total_seconds())
            except Exception:  # the edge of the task: nobody would start it again
                log.exception("back-ups stumbled")
            await asyncio.sleep(wait)

    def look(self) -> datetime | None:
        """When the newest back-up was made; sets the gauges. A folder that is not there has none."""
        folder = self.plan.folder
        try:
            found = names.newest(listed(folder), self.now())
            self.metrics.free_bytes.set(shutil.disk_usage(folder).free)
            self.metrics.bytes.set((folder / found).stat().st_size if found else 0)
        except OSError as error:
            log.warning("the folder of back-ups cannot be looked at", extra=fields(error=error))
            return None
        newest = names.moment_of(found) if found else None
        self.metrics.last_success.set(newest.timestamp() if newest else 0)
        return newest

    async def make(self) -> bool:
        """Whether there is one more now."""
        environment = {
            **os.environ,
            DATABASE_URL: self.url,
            "FOOTPLATE_BACKUP_FOLDER": str(self.plan.folder),
            "FOOTPLATE_BACKUP_KEEP": str(self.plan.keep),
        }
        command = (sys.executable, "-m", "footplate_api.backups", "make")
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(*command, env=environment, stdout=pipe, stderr=pipe)
        try:
            said, complaint = await child.communicate()
        finally:
            if child.returncode is None:  # the process ends, and what is half made counts as nothing
                child.kill()
                await child.wait()
        if child.returncode == 0:
            log.info("a back-up was made: %s", said.decode(errors="replace").strip())
            return True
        self.metrics.failures.inc()
        last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        why = last.removeprefix("footplate-api: ") or f"its process ended with {child.returncode}"
        log.error("no back-up was made: %s", why)
        return False


def _pause(failures: int) -> float:
    return backoff(failures, first=FIRST_RETRY_SECONDS, longest=LONGEST_RETRY_SECONDS)
