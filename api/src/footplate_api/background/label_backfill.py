"""Back-fill of labels for runs of former releases: once before serving, then for late ones.

A migration would lock the labels of tens of thousands of runs in one transaction, while others wait for the
database. And in a roll-out, a former release that still runs continues to store runs without them.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from footplate_api.database import WORK_SECONDS, Database
from footplate_api.errors import ApiError
from footplate_api.labels import repository

BITE: Final = 100  # runs: with 10 kB of JSON each, some 10 ms of the event loop
AGAIN_SECONDS: Final = 60.0  # to look whether a former release has stored more

log = logging.getLogger(__name__)


@dataclass
class LabelBackfill:
    """Background task that back-fills labels."""

    database: Database

    async def catch_up(self) -> int:
        """Label all runs that have no labels yet, before lists are served; return how many."""
        while await self._take_specs():
            pass
        return await self._label_all()

    async def run(self) -> None:
        """Label runs that were stored without labels, until cancelled."""
        while True:
            await asyncio.sleep(AGAIN_SECONDS)
            try:
                await self._label_all()
            except ApiError as error:
                log.warning("labels wait: %s", error.detail)
            except Exception:  # the edge of the task: nobody would start it again
                log.exception("runs cannot be labelled")

    async def _take_specs(self) -> int:
        async with self.database.write(WORK_SECONDS) as session:
            return await repository.insert_missing_specs(session, BITE)

    async def _label_all(self) -> int:
        labelled = 0
        while found := await self._bite():
            labelled += found
        return labelled

    async def _bite(self) -> int:
        async with self.database.read(WORK_SECONDS) as session:
            specs = await repository.unlabelled(session, BITE)
        if specs:  # as a rule there are none, and nobody has to wait for a write of nothing
            async with self.database.write(WORK_SECONDS) as session:
                await repository.update_labels(session, specs)
        return len(specs)
