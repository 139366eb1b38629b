"""Scheduled back-ups of the SQLite file, each by a process of its own (`footplate_api.backups`).

The folder alone has the time of the newest back-up, so that a new process finds it, too, and makes up for
back-ups that came due while none ran. A failed one is retried with backoff; the failure is counted and
logged, and does not concern the rest of the API.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from footplate_api.backups import names
from footplate_api.backups.files import list_backups
from footplate_api.db.backup_plan import BackupPlan
from footplate_api.db.revisions import DATABASE_URL
from footplate_api.instruments import BackupMetrics
from footplate_contracts.backoff import backoff_seconds
from footplate_contracts.logs import log_fields

LOOK_SECONDS: Final = 30.0  # a clock may be set, and somebody may make or delete one by hand
FIRST_RETRY_SECONDS: Final = 60.0
LONGEST_RETRY_SECONDS: Final = 3600.0

log = logging.getLogger(__name__)


@dataclass
class BackupTask:
    """Maker of scheduled back-ups."""

    url: str  # of the SQLite file
    plan: BackupPlan
    metrics: BackupMetrics
    now: Callable[[], datetime]
    _failures: int = field(default=0, init=False)  # in a row

    async def look(self) -> float | None:
        """Make a back-up if one is due; return the pause before the next look, None for the usual one."""
        newest = await asyncio.to_thread(self.find_newest)
        due = self.plan.due(newest, self.now())
        if due > self.now():
            self._failures = 0
            return min(LOOK_SECONDS, (due - self.now()).total_seconds())
        self._failures = 0 if await self.make() else self._failures + 1
        await asyncio.to_thread(self.find_newest)
        return _pause(self._failures) if self._failures else None

    def find_newest(self) -> datetime | None:
        """Set the gauges; return the newest back-up's time, None without one or without a readable folder."""
        folder = self.plan.folder
        try:
            found = names.newest(list_backups(folder), self.now())
            self.metrics.free_bytes.set(shutil.disk_usage(folder).free)
            self.metrics.bytes.set((folder / found).stat().st_size if found else 0)
        except OSError as error:
            log.warning("the folder of back-ups cannot be read", extra=log_fields(error=error))
            return None
        newest = names.moment_of(found) if found else None
        self.metrics.last_success.set(newest.timestamp() if newest else 0)
        return newest

    async def make(self) -> bool:
        """Make a back-up; return whether that succeeded."""
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
            log.info("created a back-up: %s", said.decode(errors="replace").strip())
            return True
        self.metrics.failures.inc()
        last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        why = last.removeprefix("footplate-api: ") or f"its process exited with code {child.returncode}"
        log.error("the back-up failed: %s", why)
        return False


def _pause(failures: int) -> float:
    return backoff_seconds(failures, first=FIRST_RETRY_SECONDS, longest=LONGEST_RETRY_SECONDS)
