"""Records what a caller requests before it is done, and then its result.

No change in Kubernetes lacks an entry: the entry is committed before the API sends the request to Kubernetes,
and without a database it sends none. The result is a row of its own, written afterwards. If that row could
not be written, because this process was killed or the database became unavailable, the entry has no result:
the API does not know the result then, and the entry shows so.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from footplate_api.audit import entries, repository
from footplate_api.db.database import Database
from footplate_api.errors import ApiError, DatabaseUnavailable, Forbidden
from footplate_api.identity.caller import Caller, Right

log = logging.getLogger(__name__)


@dataclass
class WriteOutcome:
    """Result of a write: the status of its response, and the object that Kubernetes returned."""

    status: int
    message: str = ""
    name: str = ""  # where it was asked for without one
    uid: str = ""


class Auditor:
    """Recorder of one caller's writes in one request; `now` is the clock of the rows."""

    def __init__(
        self, database: Database, caller: Caller, request_id: str, now: Callable[[], datetime]
    ) -> None:
        self._database = database
        self.caller = caller
        self._request_id = request_id
        self._now = now

    @asynccontextmanager
    async def record(self, right: Right, status: int) -> AsyncIterator[WriteOutcome]:
        """Record a use of `right`, and after the block its result: `status`, or the error's.

        The block completes the Outcome. Raises DatabaseUnavailable before the block begins.
        """
        async with self._database.write() as session:
            entry_id = await repository.add_entry(session, self._entry(right))
        outcome = WriteOutcome(status)
        try:
            yield outcome
        except ApiError as error:
            await self._conclude(entry_id, WriteOutcome(error.status, error.detail))
            raise
        await self._conclude(entry_id, outcome)

    async def record_refusal(self, right: Right, refusal: Forbidden) -> None:
        """Record a write that the caller may not do, with its result; raises DatabaseUnavailable."""
        async with self._database.write() as session:
            entry_id = await repository.add_entry(session, self._entry(right))
            result = entries.result(entry_id, refusal.status, self._now(), refusal.detail, "", "")
            await repository.add_result(session, result)

    def _entry(self, right: Right) -> dict[str, object]:
        return entries.entry(self.caller, right, self._request_id, self._now())

    async def _conclude(self, entry_id: int, outcome: WriteOutcome) -> None:
        result = entries.result(
            entry_id, outcome.status, self._now(), outcome.message, outcome.name, outcome.uid
        )
        try:
            async with self._database.write() as session:
                await repository.add_result(session, result)
        except DatabaseUnavailable as error:  # what is done is done: its caller is told so
            log.warning("audit entry %d: its result %d was not stored: %s", entry_id, outcome.status, error)
