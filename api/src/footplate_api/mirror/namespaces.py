"""Reflector of namespaces, which stores all that ever existed, by uid.

It lists and watches them, not each one by request: a recreated namespace must hide its predecessor's runs
before it has any of its own. It reads metadata only. It stores no ends: the next namespace of the same name
ends the former.

Their versions are not compared with those of runs: an API server may have different stores for them. Each
transaction locks the row of `installation` first, so a run that is stored meanwhile is assigned to its
namespace, whichever is first.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from footplate_api.db.database import PAGE_SECONDS
from footplate_api.installation import repository as installation
from footplate_api.kubernetes.client import EventType, Manifest, WatchEvent
from footplate_api.mirror.reflector import Reflector
from footplate_api.namespaces import repository
from footplate_api.namespaces.lifetimes import row

log = logging.getLogger(__name__)


@dataclass
class NamespaceMirror(Reflector):
    """Reflector of namespaces."""

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
        self.record_contact()
        return version

    async def apply(self, events: Sequence[WatchEvent]) -> None:
        """Store new namespaces."""
        await self._note(event.manifest for event in events if event.type is not EventType.BOOKMARK)

    async def _note(self, manifests: Iterable[Manifest]) -> None:
        rows = decoded(manifests)
        async with self.database.read(PAGE_SECONDS) as session:
            known = await repository.existing_uids(session, rows.keys())
        for uid in sorted(rows.keys() - known):  # one at a time: each may own thousands of runs
            async with self.database.write(PAGE_SECONDS) as session:
                await installation.lock(session)
                await repository.store_namespaces(session, [rows[uid]])


def decoded(manifests: Iterable[Manifest]) -> dict[str, dict[str, Any]]:
    """Return uid -> row of all readable manifests; log and skip the others."""
    rows: dict[str, dict[str, Any]] = {}
    for manifest in manifests:
        try:
            made = row(manifest)
        except ValueError as error:
            log.error("skipped an object: %s", error)
            continue
        rows.setdefault(made["uid"], made)
    return rows
