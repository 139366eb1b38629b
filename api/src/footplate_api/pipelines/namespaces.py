"""Keeps the table of namespaces: which ones there were, by uid.

They are listed and watched, not asked for one by one: a namespace that was made anew must
hide its predecessor's runs before it has any of its own. Only metadata is read. Nothing is
noted of their ends: the name's next bearer is what ends a namespace's turn.

Their versions are not compared with those of runs: an API server may keep both in
different stores. Each transaction takes its turn at the row of `installation`, so a run
that is stored meanwhile is shared out to the namespace that it belongs to, whichever is
first.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from footplate_api.database import PAGE_SECONDS
from footplate_api.installation import repository as installation
from footplate_api.namespaces import repository
from footplate_api.namespaces.generations import row
from footplate_api.pipelines.following import Follower
from footplate_api.ports import EventType, Manifest, WatchEvent

log = logging.getLogger(__name__)


@dataclass
class NamespaceMirror(Follower):
    """Follows namespaces."""

    kind: ClassVar[str] = "Namespaces"

    def watch(self, version: str) -> AsyncIterator[Sequence[WatchEvent]]:
        return self.cluster.watch_namespaces(version)

    async def list(self) -> str:
        page = await self.cluster.list_namespaces(None)
        version = page.resource_version
        await self._note(page.manifests)
        while page.next_token is not None:
            page = await self.cluster.list_namespaces(page.next_token)
            await self._note(page.manifests)
        self.heard()
        return version

    async def apply(self, events: Sequence[WatchEvent]) -> None:
        """Notes those that are new."""
        await self._note(event.manifest for event in events if event.type is not EventType.BOOKMARK)

    async def _note(self, manifests: Iterable[Manifest]) -> None:
        rows = decoded(manifests)
        async with self.database.read(PAGE_SECONDS) as session:
            known = await repository.known(session, rows.keys())
        for uid in sorted(rows.keys() - known):  # one at a time: each may own thousands of runs
            async with self.database.write(PAGE_SECONDS) as session:
                await installation.take_turn(session)
                await repository.store(session, [rows[uid]])


def decoded(manifests: Iterable[Manifest]) -> dict[str, dict[str, Any]]:
    """uid -> row of those manifests that can be read; the others are logged and left out."""
    rows: dict[str, dict[str, Any]] = {}
    for manifest in manifests:
        try:
            made = row(manifest)
        except ValueError as error:
            log.error("skipped an object: %s", error)
            continue
        rows.setdefault(made["uid"], made)
    return rows
