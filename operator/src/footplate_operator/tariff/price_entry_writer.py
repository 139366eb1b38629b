"""Writes the price entries that follow from the prices of ComputeProfiles.

Only the leader can. A profile is processed when the watch delivers it, so all of them are when an operator
begins to lead, and again later where an entry was refused. An entry that exists already is no failure:
another replica, or an earlier try, has written it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from footplate_contracts.backoff import backoff_seconds
from footplate_contracts.logs import log_fields
from footplate_contracts.names import API_VERSION, MANAGED_BY, MANAGED_BY_LABEL
from footplate_ledger.intervals import unix_second
from footplate_operator.errors import AlreadyExists, ClusterError
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.kinds import Json
from footplate_operator.tariff.profile_prices import (
    NewEntry,
    build_missing_entries,
    entry_source,
    read_statement,
)
from footplate_operator.tariff.tariffs import PRICE_ENTRY, TariffCache

FIRST_RETRY_SECONDS: Final = 1.0
LONGEST_RETRY_SECONDS: Final = 300.0
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class PriceEntryWriter:
    """Writer of price entries. `now` is in UTC; `cluster` refuses changes unless this replica leads."""

    cluster: Cluster
    tariffs: TariffCache
    now: Callable[[], datetime]
    _profiles: dict[str, Json] = field(default_factory=dict)  # that are to be looked at, by name
    _failures: int = 0
    _told: asyncio.Event = field(default_factory=asyncio.Event)

    def enqueue(self, profile: Json) -> None:
        """Queue a changed profile. A deleted one needs no call: its last price stays in force."""
        self._profiles[profile["metadata"]["name"]] = profile
        self._told.set()

    async def run(self) -> None:
        """Write entries of queued profiles forever; raises LeadershipLost."""
        while True:
            await self._told.wait()
            self._told.clear()
            if await self.write_pending():
                self._failures = 0
                continue
            self._failures += 1
            with suppress(TimeoutError):  # news may be what was missing
                async with asyncio.timeout(
                    backoff_seconds(self._failures, first=FIRST_RETRY_SECONDS, longest=LONGEST_RETRY_SECONDS)
                ):
                    await self._told.wait()
            self._told.set()

    async def write_pending(self) -> bool:
        """Write the missing entries of queued profiles; return whether all were written.

        Raises LeadershipLost.
        """
        for name, profile in list(self._profiles.items()):
            try:
                await self._look_at(profile)
            except (ClusterError, ValueError) as error:
                about = log_fields(profile=name, error=error)
                _log.warning("cannot write a profile's price to the price book yet", extra=about)
                continue
            if self._profiles.get(name) is profile:
                del self._profiles[name]
        return not self._profiles

    async def _look_at(self, profile: Json) -> None:
        await self.tariffs.ensure_listed()
        said = read_statement(profile)
        known = self.tariffs.list_entries(entry_source(said.profile))
        for entry in build_missing_entries(said, known, unix_second(self.now())):
            await self._write(entry)

    async def _write(self, entry: NewEntry) -> None:
        manifest = {
            "apiVersion": API_VERSION,
            "kind": PRICE_ENTRY.name,
            "metadata": {"name": entry.name, "labels": {MANAGED_BY_LABEL: MANAGED_BY}},
            "spec": entry.spec.to_json(),
        }
        try:
            made = await self.cluster.create(PRICE_ENTRY, manifest)
            _log.info(
                "wrote a price to the price book",
                extra=log_fields(name=entry.name, price=entry.spec.to_json()),
            )
        except AlreadyExists:
            made = await self.cluster.get(PRICE_ENTRY, "", entry.name)
        self.tariffs.store(PRICE_ENTRY, made)
