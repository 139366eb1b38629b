"""Prevents a replica from changing anything once another replica may hold its Lease.

A process that was stopped, or whose machine was, resumes in the middle of its work, and another replica leads
by then. Each call is safe beside another replica's, by preconditions and fixed names; only the Lease shows
that a decision is outdated.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from footplate_operator.runtime.cluster import PAGE, Cluster
from footplate_operator.runtime.kinds import Json, Kind


@dataclass(frozen=True)
class FencedCluster(Cluster):
    """Wrapper of `cluster` that calls `check`, which may raise, before every change."""

    cluster: Cluster
    check: Callable[[], None]

    async def get(self, kind: Kind, namespace: str, name: str) -> Json:
        return await self.cluster.get(kind, namespace, name)

    async def find(self, kind: Kind, namespace: str, labels: str = "", fields: str = "") -> list[Json]:
        return await self.cluster.find(kind, namespace, labels, fields)

    def pages(
        self, kind: Kind, namespace: str, labels: str = "", fields: str = "", size: int = PAGE
    ) -> AsyncIterator[list[Json]]:
        return self.cluster.pages(kind, namespace, labels, fields, size)

    async def create(self, kind: Kind, body: Json) -> Json:
        self.check()
        return await self.cluster.create(kind, body)

    async def would_create(self, kind: Kind, body: Json, *, strict: bool = True) -> None:
        await self.cluster.would_create(kind, body, strict=strict)

    async def apply(self, kind: Kind, body: Json, subresource: str = "") -> Json:
        self.check()
        return await self.cluster.apply(kind, body, subresource)

    async def replace(self, kind: Kind, body: Json) -> Json:
        self.check()
        return await self.cluster.replace(kind, body)

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Json) -> Json:
        self.check()
        return await self.cluster.merge(kind, namespace, name, patch)

    async def delete(
        self, kind: Kind, namespace: str, name: str, uid: str = "", grace: int | None = None
    ) -> None:
        self.check()
        await self.cluster.delete(kind, namespace, name, uid, grace)

    async def delete_all(self, kind: Kind, namespace: str, labels: str, grace: int | None = None) -> None:
        self.check()
        await self.cluster.delete_all(kind, namespace, labels, grace)
