"""Reflector of a cluster-scoped kind whose objects are stored again whenever they change.

The process remembers which version of each object it stored last: a list of tens of thousands without changes
costs only the reading of their metadata. After a restart all objects are stored once more, which changes
nothing.
"""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import ClassVar, Final, TypeVar

from footplate_api.kubernetes.client import EventType, Manifest, Resource, WatchEvent
from footplate_api.mirror.reflector import Reflector

AT_ONCE: Final = 100  # objects that are read and stored together

Made = TypeVar("Made")
log = logging.getLogger(__name__)


@dataclass
class ObjectReflector(Reflector):
    """Reflector of one kind; subclasses store its objects."""

    resource: ClassVar[Resource]

    taken: dict[str, str] = field(default_factory=dict, init=False)  # uid -> version

    def watch(self, version: str) -> AsyncIterator[Sequence[WatchEvent]]:
        return self.cluster.watch_objects(self.resource, version)

    def record_contact(self) -> None:
        super().record_contact()
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
        await self.prune(names)
        self.record_contact()
        self.allow_watch(version)  # what follows may take long, and hear no answer
        await self.clean_up()
        return version

    async def apply(self, events: Sequence[WatchEvent]) -> None:
        """Store the last state of each object in `events`, deleted ones included."""
        last: dict[str, WatchEvent] = {}
        for event in events:
            if event.type is not EventType.BOOKMARK and _is_object(event.manifest):
                last[event.manifest["metadata"]["uid"]] = event
        there = [event.manifest for event in last.values() if event.type is not EventType.DELETED]
        gone = [event.manifest for event in last.values() if event.type is EventType.DELETED]
        if gone:  # first: a name may be another object's by now
            await self.remove(gone)
            for manifest in gone:
                self.taken.pop(manifest["metadata"]["uid"], None)
        await self._take(there)
        await self.clean_up()

    async def _take(self, manifests: Sequence[Manifest]) -> None:
        news = [manifest for manifest in manifests if self._is_news(manifest)]
        for start in range(0, len(news), AT_ONCE):
            part = news[start : start + AT_ONCE]
            await self.store(part)
            self.taken.update((known["metadata"]["uid"], _version(known)) for known in part)
        for start in range(0, len(manifests), AT_ONCE):
            self.on_stored(manifests[start : start + AT_ONCE])
            await asyncio.sleep(0)  # others have their turn

    def _is_news(self, manifest: Manifest) -> bool:
        return self.taken.get(manifest["metadata"]["uid"]) != _version(manifest)

    async def parse(
        self, make: Callable[[Manifest], Made], manifests: Iterable[Manifest]
    ) -> tuple[Sequence[Made], Set[str]]:
        """Return what `make` makes of objects, in a thread, and the uids of those of which it makes nothing.

        These are logged and counted.
        """
        made, failures = await asyncio.to_thread(_parse, make, manifests)
        for error in failures.values():
            log.error("skipped an object: %s", error)
            self.metrics.objects_skipped.labels(self.kind).inc()
        return made, failures.keys()

    @abstractmethod
    async def store(self, manifests: Sequence[Manifest]) -> None:
        """Store objects that are new, or of another version than before."""

    def on_stored(self, manifests: Sequence[Manifest]) -> None:
        """Process existing objects after they are stored; by default do nothing."""

    async def clean_up(self) -> None:
        """Act on the objects passed to `on_stored`, after all others are stored, too; by default do nothing.

        Implementations log errors, and do not raise them: the watch must go on.
        """

    async def remove(self, manifests: Iterable[Manifest]) -> None:
        """Handle deleted objects; by default their rows stay."""

    async def prune(self, names: Collection[str]) -> None:
        """Delete the rows of objects with other names than `names`; by default do nothing."""


def _parse(
    make: Callable[[Manifest], Made], manifests: Iterable[Manifest]
) -> tuple[list[Made], dict[str, ValueError]]:
    made: list[Made] = []
    failures: dict[str, ValueError] = {}
    for manifest in manifests:
        try:
            made.append(make(manifest))
        except ValueError as error:
            failures[manifest["metadata"]["uid"]] = error
    return made, failures


def _is_object(manifest: Manifest) -> bool:
    """Return whether `manifest` has a name, a uid and a version, as all objects of an API server."""
    about = manifest.get("metadata")
    return isinstance(about, dict) and all(
        isinstance(about.get(name), str) for name in ("name", "uid", "resourceVersion")
    )


def _version(manifest: Manifest) -> str:
    return str(manifest["metadata"]["resourceVersion"])
