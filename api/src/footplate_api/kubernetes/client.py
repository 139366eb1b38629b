"""Protocol of the Kubernetes client that the services need, without its transport.

cluster.KubernetesCluster is the real one; tests have a fake.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Protocol

from footplate_api.errors import ClusterRefused

Manifest = Mapping[str, Any]
"""A Kubernetes object as plain JSON values."""


async def if_found(asked: Awaitable[Manifest]) -> Manifest | None:
    """Return the object that `asked` gets; None where Kubernetes has none. Other errors are raised."""
    try:
        return await asked
    except ClusterRefused as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return None
        raise


class Resource(StrEnum):
    """Cluster-scoped kinds that the API follows, by their plural names in URLs."""

    USAGE = "usagerecords"
    PRICES = "priceentries"
    CARBON = "carbonintensities"
    PROFILES = "computeprofiles"


class EventType(StrEnum):
    """Types of watch events: all but bookmarks, which only move the version, change something."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


@dataclass(frozen=True)
class WatchEvent:
    """Line of a watch."""

    type: EventType
    manifest: Manifest
    heard_at: datetime | None = None  # by the clock of whoever reads the watch

    @property
    def resource_version(self) -> str:
        """Version from which a watch continues after this event."""
        return str(self.manifest["metadata"]["resourceVersion"])


@dataclass(frozen=True)
class ListPage:
    """Page of a list of all objects of a kind."""

    manifests: Sequence[Manifest]
    resource_version: str
    next_token: str | None


class KubernetesWriter(Protocol):
    """Writer of Kubernetes objects, which can also read them back.

    Raises the errors of `KubernetesClient`.
    """

    async def create_run(self, namespace: str, manifest: Manifest) -> Manifest:
        """Create a run under strict validation; return the object as stored.

        Raises ClusterRefused with the API server's status and message.
        """
        ...

    async def get_run(self, namespace: str, name: str) -> Manifest:
        """Return the run of this name; raises ClusterRefused (404)."""
        ...

    async def delete_run(self, namespace: str, name: str, uid: str | None) -> str:
        """Delete the run of this name, with `uid` only if it has that uid; return the uid of the deleted run.

        Raises ClusterRefused (404, 409 for another uid).
        """
        ...

    async def create_price(self, manifest: Manifest, dry_run: bool = False) -> Manifest:
        """Create a PriceEntry under strict validation; return the object as stored, or as a dry run shows it.

        Raises ClusterRefused with the API server's status and message.
        """
        ...

    async def get_price(self, name: str) -> Manifest:
        """Return the PriceEntry of this name; raises ClusterRefused (404)."""
        ...


class KubernetesClient(KubernetesWriter, Protocol):
    """Kubernetes API client for TrainingRuns, their namespaces, and the objects that costs depend on.

    Every method raises ClusterUnavailable when the API server does not answer, and
    InstallationLacksRights when it refuses this program's own account.
    """

    async def try_run(self, namespace: str, manifest: Manifest) -> Manifest:
        """Return the object that create_run would store, by a dry run with all validation and defaults.

        Raises as create_run does.
        """
        ...

    async def get_profile(self, name: str) -> Manifest | None:
        """Return the ComputeProfile of this name, or None."""
        ...

    def in_namespace(self, namespace: str) -> KubernetesClient:
        """Return a client whose lists and watches of runs and namespaces show `namespace` alone."""
        ...

    async def get_cluster_uid(self) -> str:
        """Return the cluster's identity: the uid of its namespace kube-system."""
        ...

    async def list_runs(self, token: str | None) -> ListPage:
        """Return the first page, or the one that the previous page's `token` names.

        The list is consistent: its version is no smaller than any that was seen before the request.
        Raises ListExpired when the token is too old.
        """
        ...

    async def list_versions(self, token: str | None) -> ListPage:
        """List the metadata of runs, as list_runs does."""
        ...

    def watch_runs(self, resource_version: str) -> AsyncIterator[Sequence[WatchEvent]]:
        """Yield events after `resource_version`, grouped as they arrived.

        Ends by itself after about a minute. Raises ListExpired when the API server has compacted that
        version.
        """
        ...

    async def list_namespaces(self, token: str | None) -> ListPage:
        """List the metadata of namespaces, as list_runs does."""
        ...

    def watch_namespaces(self, resource_version: str) -> AsyncIterator[Sequence[WatchEvent]]:
        """Watch the metadata of namespaces, as watch_runs does."""
        ...

    async def list_objects(self, resource: Resource, token: str | None) -> ListPage:
        """List a cluster-scoped kind, as list_runs does."""
        ...

    def watch_objects(self, resource: Resource, resource_version: str) -> AsyncIterator[Sequence[WatchEvent]]:
        """Watch a cluster-scoped kind, as watch_runs does."""
        ...

    async def delete_record(self, name: str, uid: str, resource_version: str) -> None:
        """Delete a UsageRecord in this version.

        Raises ClusterRefused (404; 409 where it has changed, or is another one of this name).
        """
        ...
