"""A Kubernetes API that behaves like one as far as TrainingRuns and their namespaces go."""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, cast

from footplate_api.errors import ClusterRefused, ClusterUnavailable, ListExpired
from footplate_api.kubernetes.client import EventType, ListPage, Manifest, Resource, WatchEvent


@dataclass(frozen=True)
class Backup:
    """A cluster as it was once."""

    objects: dict[tuple[str, str], dict[str, Any]]
    version: int


class FakeCluster:
    """Holds runs, counts versions, remembers events until told to forget them.

    `available = False` is an API server that does not answer; `forget()` compacts its
    history; `silent = True` changes things without telling watches, as a lost event does.
    """

    def __init__(self, page_size: int = 500, uid: str = "uid-of-kube-system") -> None:
        self.uid = uid
        self.namespaces: dict[str, dict[str, Any]] = {}
        self.others: dict[Resource, dict[str, dict[str, Any]]] = {resource: {} for resource in Resource}
        self.profiles = self.others[Resource.PROFILES]
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.available = True
        self.silent = False
        self.lists = 0
        self.gets = 0
        self._page_size = page_size
        self.version = 100
        self.oldest = 0
        self._events: list[WatchEvent] = []
        self._namespace_events: list[WatchEvent] = []
        self._other_events: dict[Resource, list[WatchEvent]] = {resource: [] for resource in Resource}
        self._news = asyncio.Condition()

    # -- what the API calls ----------------------------------------------------------

    def in_namespace(self, namespace: str) -> FakeCluster:
        return cast(FakeCluster, _Within(self, namespace))

    async def get_cluster_uid(self) -> str:
        self._answer()
        return self.uid

    async def create_run(self, namespace: str, manifest: Manifest) -> Manifest:
        name = self.admit(namespace, manifest)
        return await self.put(namespace, name, manifest["spec"], metadata=manifest["metadata"])

    async def try_run(self, namespace: str, manifest: Manifest) -> Manifest:
        name = self.admit(namespace, manifest)
        metadata = {**manifest["metadata"], "namespace": namespace, "name": name, "uid": str(uuid.uuid4())}
        return copy.deepcopy({**manifest, "metadata": metadata})

    def admit(self, namespace: str, manifest: Manifest) -> str:
        """The name of a run that may be created; raises ClusterRefused."""
        self._answer()
        metadata = manifest["metadata"]
        name = metadata.get("name") or f"{metadata.get('generateName', '')}{uuid.uuid4().hex[:5]}"
        if (namespace, name) in self.objects:
            raise ClusterRefused(f'trainingruns.footplate.dev "{name}" already exists', status=409)
        return str(name)

    async def get_run(self, namespace: str, name: str) -> Manifest:
        self.gets += 1
        self._answer()
        found = self.objects.get((namespace, name))
        if found is None:
            raise ClusterRefused(f'trainingruns.footplate.dev "{name}" not found', status=404)
        return copy.deepcopy(found)

    async def get_profile(self, name: str) -> Manifest | None:
        self._answer()
        return copy.deepcopy(self.profiles.get(name))

    async def delete_run(self, namespace: str, name: str, uid: str | None) -> str:
        self._answer()
        found = self.objects.get((namespace, name))
        if found is None:
            raise ClusterRefused(f'trainingruns.footplate.dev "{name}" not found', status=404)
        if uid not in (None, found["metadata"]["uid"]):
            raise ClusterRefused(f"the UID in the precondition ({uid}) does not match", status=409)
        await self.remove(namespace, name)
        return str(found["metadata"]["uid"])

    async def list_runs(self, token: str | None) -> ListPage:
        self._answer()
        self.lists += 1
        return self._page(self.objects, token)

    async def list_versions(self, token: str | None) -> ListPage:
        page = await self.list_runs(token)
        return replace(page, manifests=[{"metadata": manifest["metadata"]} for manifest in page.manifests])

    def watch_runs(self, resource_version: str) -> AsyncIterator[Sequence[WatchEvent]]:
        return self._watch(self._events, resource_version)

    async def list_namespaces(self, token: str | None) -> ListPage:
        self._answer()
        return self._page(self.namespaces, token)

    def watch_namespaces(self, resource_version: str) -> AsyncIterator[Sequence[WatchEvent]]:
        return self._watch(self._namespace_events, resource_version)

    async def list_objects(self, resource: Resource, token: str | None) -> ListPage:
        self._answer()
        return self._page(self.others[resource], token)

    def watch_objects(self, resource: Resource, resource_version: str) -> AsyncIterator[Sequence[WatchEvent]]:
        return self._watch(self._other_events[resource], resource_version)

    async def create_price(self, manifest: Manifest, dry_run: bool = False) -> Manifest:
        self._answer()
        about = manifest["metadata"]
        name = about.get("name") or f"{about['generateName']}{uuid.uuid4().hex[:5]}"
        if name in self.others[Resource.PRICES]:
            raise ClusterRefused(f'priceentries.footplate.dev "{name}" already exists', status=409)
        if dry_run:
            return self._object(name, manifest["spec"], about)
        return await self.put_object(Resource.PRICES, name, manifest["spec"], about)

    async def get_price(self, name: str) -> Manifest:
        self._answer()
        return copy.deepcopy(self._found(Resource.PRICES, name))

    async def delete_record(self, name: str, uid: str, resource_version: str) -> None:
        self._answer()
        about = self._found(Resource.USAGE, name)["metadata"]
        if (about["uid"], about["resourceVersion"]) != (uid, resource_version):
            raise ClusterRefused("the UID or version in the precondition does not match", status=409)
        await self.remove_object(Resource.USAGE, name)

    def _found(self, resource: Resource, name: str) -> dict[str, Any]:
        if name not in self.others[resource]:
            raise ClusterRefused(f'{resource}.footplate.dev "{name}" not found', status=404)
        return self.others[resource][name]

    def _page(self, objects: Mapping[Any, dict[str, Any]], token: str | None) -> ListPage:
        start = int(token or 0)
        following = start + self._page_size
        page = [copy.deepcopy(objects[key]) for key in sorted(objects)[start:following]]
        return ListPage(page, str(self.version), str(following) if following < len(objects) else None)

    async def _watch(
        self, events: list[WatchEvent], resource_version: str
    ) -> AsyncIterator[Sequence[WatchEvent]]:
        seen = int(resource_version)
        for _ in range(20):  # then the server's own timeout ends the watch
            self._answer()
            if not self.oldest <= seen <= self.version:
                raise ListExpired(f"too old resource version: {seen} ({self.oldest})")
            news = [event for event in events if int(event.resource_version) > seen]
            if news:
                yield news
                seen = int(news[-1].resource_version)
            async with self._news:
                # Not wait_for: up to Python 3.11 it swallows a cancellation that comes with the news.
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await self._news.wait()

    # -- what the rest of the cluster does -------------------------------------------

    async def put(
        self,
        namespace: str,
        name: str,
        spec: Mapping[str, Any] | None = None,
        status: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Creates or changes a run, as kubectl or the operator would."""
        known = self.objects.get((namespace, name))
        self.version += 1
        stored = {
            "apiVersion": "footplate.dev/v1alpha1",
            "kind": "TrainingRun",
            "metadata": {
                "uid": known["metadata"]["uid"] if known else str(uuid.uuid4()),
                "creationTimestamp": f"2026-11-25T10:{len(self.objects) // 60 % 60:02}"
                f":{len(self.objects) % 60:02}Z",
                "generation": 1,
                **(known["metadata"] if known else {}),
                **(metadata or {}),
                "namespace": namespace,
                "name": name,
                "resourceVersion": str(self.version),
            },
            "spec": dict(spec if spec is not None else (known or {"spec": {"stage": "pretrain"}})["spec"]),
            "status": dict(status if status is not None else (known or {}).get("status", {})),
        }
        self.objects[namespace, name] = stored
        await self._tell(EventType.MODIFIED if known else EventType.ADDED, stored)
        return copy.deepcopy(stored)

    async def remove(self, namespace: str, name: str) -> None:
        """Deletes a run for good."""
        gone = self.objects.pop((namespace, name))
        self.version += 1
        gone["metadata"]["resourceVersion"] = str(self.version)
        await self._tell(EventType.DELETED, gone)

    async def put_object(
        self,
        resource: Resource,
        name: str,
        spec: Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Creates or changes an object of a kind of the whole cluster."""
        known = self.others[resource].get(name)
        self.version += 1
        stored = self._object(name, spec, {**(known["metadata"] if known else {}), **(metadata or {})})
        self.others[resource][name] = stored
        await self._tell_of(resource, EventType.MODIFIED if known else EventType.ADDED, stored)
        return copy.deepcopy(stored)

    def _object(self, name: str, spec: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
        about = {"uid": str(uuid.uuid4()), "creationTimestamp": "2026-11-25T10:00:00Z", **metadata}
        return {"metadata": {**about, "name": name, "resourceVersion": str(self.version)}, "spec": dict(spec)}

    async def remove_object(self, resource: Resource, name: str) -> None:
        """Deletes an object of a kind of the whole cluster."""
        gone = self.others[resource].pop(name)
        self.version += 1
        gone["metadata"]["resourceVersion"] = str(self.version)
        await self._tell_of(resource, EventType.DELETED, gone)

    async def _tell_of(self, resource: Resource, kind: EventType, manifest: Mapping[str, Any]) -> None:
        if self.silent:
            return
        self._other_events[resource].append(WatchEvent(kind, copy.deepcopy(dict(manifest))))
        async with self._news:
            self._news.notify_all()

    async def make_namespace(self, name: str, created: str) -> str:
        """Makes a namespace, anew if there is one with all that is in it; returns its uid."""
        for key in [key for key in self.objects if key[0] == name]:
            await self.remove(*key)
        self.version += 1
        metadata = {
            "uid": str(uuid.uuid4()),
            "name": name,
            "resourceVersion": str(self.version),
            "creationTimestamp": created,
        }
        self.namespaces[name] = {"metadata": metadata}
        if not self.silent:
            self._namespace_events.append(WatchEvent(EventType.ADDED, self.namespaces[name]))
            async with self._news:
                self._news.notify_all()
        return str(metadata["uid"])

    def backup(self) -> Backup:
        """What restore() sets the cluster back to."""
        return Backup(copy.deepcopy(self.objects), self.version)

    def restore(self, backup: Backup) -> None:
        """Sets everything back, versions included; watches from before end."""
        self.objects, self.version = copy.deepcopy(backup.objects), backup.version
        self.forget()

    def events_after(self, version: int) -> list[WatchEvent]:
        """What a watch from this version brings."""
        return [event for event in self._events if int(event.resource_version) > version]

    def forget(self) -> None:
        """Compacts: watches from before now are refused."""
        self._events.clear()
        self._namespace_events.clear()
        for events in self._other_events.values():
            events.clear()
        self.version += 1
        self.oldest = self.version

    def _answer(self) -> None:
        if not self.available:
            raise ClusterUnavailable("The Kubernetes API server does not answer (Fake).")

    async def _tell(self, kind: EventType, manifest: Mapping[str, Any]) -> None:
        if self.silent:
            return
        self._events.append(WatchEvent(kind, copy.deepcopy(dict(manifest))))
        async with self._news:
            self._news.notify_all()


@dataclass
class _Within:
    """A cluster of which one namespace is seen."""

    whole: FakeCluster
    namespace: str

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    async def list_runs(self, token: str | None) -> ListPage:
        page = await self.whole.list_runs(token)
        return replace(page, manifests=[body for body in page.manifests if self._shows(body)])

    async def list_versions(self, token: str | None) -> ListPage:
        page = await self.whole.list_versions(token)
        return replace(page, manifests=[body for body in page.manifests if self._shows(body)])

    async def watch_runs(self, resource_version: str) -> AsyncIterator[Sequence[WatchEvent]]:
        async for events in self.whole.watch_runs(resource_version):
            if shown := [event for event in events if self._shows(event.manifest)]:
                yield shown

    async def list_namespaces(self, token: str | None) -> ListPage:
        page = await self.whole.list_namespaces(token)
        return replace(page, manifests=[body for body in page.manifests if self._is(body)])

    async def watch_namespaces(self, resource_version: str) -> AsyncIterator[Sequence[WatchEvent]]:
        async for events in self.whole.watch_namespaces(resource_version):
            if shown := [event for event in events if self._is(event.manifest)]:
                yield shown

    def _shows(self, manifest: Manifest) -> bool:
        return bool(manifest["metadata"].get("namespace") == self.namespace)

    def _is(self, manifest: Manifest) -> bool:
        return bool(manifest["metadata"]["name"] == self.namespace)
