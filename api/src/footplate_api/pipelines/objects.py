"""Follows a kind of the whole cluster whose objects are told again whenever they change.

Which version of an object was taken over last is remembered in the process: a list of tens of thousands
that has nothing new reads their metadata and is done. After a restart all are taken over once more, which
changes nothing that is known.
"""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

from footplate_api.pipelines.following import Follower
from footplate_api.ports import EventType, Manifest, Resource, WatchEvent

AT_ONCE: Final = 100  # objects that are read and stored together

log = logging.getLogger(__name__)


@dataclass
class ObjectFollower(Follower):
    """Follows one kind; its subclasses say what is kept of an object."""

    resource: ClassVar[Resource]

    taken: dict[str, str] = field(default_factory=dict, init=False)  # uid -> version

    def watch(self, version: str) -> AsyncIterator[Sequence[WatchEvent]]:
        return self.cluster.watch_objects(self.resource, version)

    def heard(self) -> None:
        super().heard()
        self.health.heard[self.kind] = self.now()

    async def list(self) -> str:
        page = await self.cluster.list_objects(self.resource, None)
        version = page.resource_version
        names: set[str] = set()
        uids: set[str] = set()
        while True:
            there = [manifest for manifest in page.manifests if _is_object(manifest)]
            names |= {manifest["metadata"]["name"] for manifest in there}
            uids |= {manifest["metadata"]["uid"] for manifest in there}
            await self._take(there)
            if page.next_token is None:
                break
            page = await self.cluster.list_objects(self.resource, page.next_token)
        self.taken = {uid: known for uid, known in self.taken.items() if uid in uids}
        await self.keep(names)
        self.heard()
        self.may_watch(version)  # what follows may take long, and hear no answer
        await self.settle()
        return version

    async def apply(self, events: Sequence[WatchEvent]) -> None:
        """Takes over the last state of each object that is told of; one that is gone has a last one, too."""
        last: dict[str, WatchEvent] = {}
        for event in events:
            if event.type is not EventType.BOOKMARK and _is_object(event.manifest):
                last[event.manifest["metadata"]["uid"]] = event
        there = [event.manifest for event in last.values() if event.type is not EventType.DELETED]
        gone = [event.manifest for event in last.values() if event.type is EventType.DELETED]
        if gone:  # first: a name may be another object's by now
            await self.lose(gone)
            for manifest in gone:
                self.taken.pop(manifest["metadata"]["uid"], None)
        await self._take(there)
        await self.settle()

    async def _take(self, manifests: Sequence[Manifest]) -> None:
        news = [manifest for manifest in manifests if self._is_news(manifest)]
        for start in range(0, len(news), AT_ONCE):
            part = news[start : start + AT_ONCE]
            await self.store(part)
            self.taken.update((known["metadata"]["uid"], _version(known)) for known in part)
        for start in range(0, len(manifests), AT_ONCE):
            self.stored(manifests[start : start + AT_ONCE])
            await asyncio.sleep(0)  # others have their turn

    def _is_news(self, manifest: Manifest) -> bool:
        return self.taken.get(manifest["metadata"]["uid"]) != _version(manifest)

    def skip(self, error: ValueError) -> None:
        """Notes that an object cannot be read."""
        log.error("skipped an object: %s", error)
        self.metrics.objects_skipped.labels(self.kind).inc()

    @abstractmethod
    async def store(self, manifests: Sequence[Manifest]) -> None:
        """Takes over objects that are new, or of another version than before, in one transaction."""

    def stored(self, manifests: Sequence[Manifest]) -> None:
        """Notes objects that are there, once all that they tell is stored; as a rule nothing."""

    async def settle(self) -> None:
        """What follows for those that were noted, once all others are stored, too; as a rule nothing.

        Trouble with it is noted, and keeps nobody from hearing what is told.
        """

    async def lose(self, manifests: Iterable[Manifest]) -> None:
        """Takes over that these objects are gone; what they told stands unless a kind says otherwise."""

    async def keep(self, names: Collection[str]) -> None:
        """Takes over that no other objects than those of these names are there; as a rule nothing."""


def _is_object(manifest: Manifest) -> bool:
    """Whether an API server would send it: it has a name, a uid and a version."""
    about = manifest.get("metadata")
    return isinstance(about, dict) and all(
        isinstance(about.get(name), str) for name in ("name", "uid", "resourceVersion")
    )


def _version(manifest: Manifest) -> str:
    return str(manifest["metadata"]["resourceVersion"])
