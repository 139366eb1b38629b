"""What the services need from Kubernetes, and nothing of how it is reached.

The real one is cluster.KubernetesCluster; tests bring one that behaves like it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

Manifest = Mapping[str, Any]
"""A Kubernetes object as plain JSON values."""


class Resource(StrEnum):
    """Kinds of the whole cluster that are followed, by the names that URLs have for them."""

    USAGE = "usagerecords"
    PRICES = "priceentries"
    CARBON = "carbonintensities"
    PROFILES = "computeprofiles"


class EventType(StrEnum):
    """Types of watch events that change something; bookmarks only move the version."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


@dataclass(frozen=True)
class WatchEvent:
    """One line of a watch."""

    type: EventType
    manifest: Manifest
    heard_at: datetime | None = None  # by the clock of whoever reads the watch

    @property
    def resource_version(self) -> str:
        """The version from which a watch goes on after this event."""
        return str(self.manifest["metadata"]["resourceVersion"])


@dataclass(frozen=True)
class ListPage:
    """A part of the list of all objects of a kind."""

    manifests: Sequence[Manifest]
    resource_version: str
    next_token: str | None


class Writer(Protocol):
    """What is changed in the Kubernetes API, and read back; raises what all of `Cluster` does."""

    async def create_run(self, namespace: str, manifest: Manifest) -> Manifest:
        """Creates a run under strict validation; the object as stored.

        Raises ClusterRefused with the API server's status and message.
        """
        ...

    async def get_run(self, namespace: str, name: str) -> Manifest:
        """The run of this name; raises ClusterRefused (404)."""
        ...

    async def delete_run(self, namespace: str, name: str, uid: str | None) -> str:
        """Deletes the run of this name, if `uid` is given only that one; the uid of what it deleted.

        Raises ClusterRefused (404, 409 for another uid).
        """
        ...

    async def create_price(self, manifest: Manifest, dry_run: bool = False) -> Manifest:
        """Creates a PriceEntry under strict validation; the object as stored, or as it would be.

        Raises ClusterRefused with the API server's status and message.
        """
        ...

    async def get_price(self, name: str) -> Manifest:
        """The PriceEntry of this name; raises ClusterRefused (404)."""
        ...


class Cluster(Writer, Protocol):
    """TrainingRuns in the Kubernetes API, the namespaces that they are in, and what their costs follow from.

    Every method raises ClusterUnavailable when the API server does not answer, and
    InstallationLacksRights when it refuses this program's own account.
    """

    async def try_run(self, namespace: str, manifest: Manifest) -> Manifest:
        """What create_run would give, with all that is checked and filled in; nothing is stored.

        Raises as create_run does.
        """
        ...

    async def get_profile(self, name: str) -> Manifest | None:
        """The ComputeProfile of this name, None where there is none."""
        ...

    def within(self, namespace: str) -> Cluster:
        """This cluster, whose lists and watches of runs and namespaces show this namespace alone."""
        ...

    async def identity(self) -> str:
        """What tells this cluster from any other: the uid of its namespace kube-system."""
        ...

    async def list_runs(self, token: str | None) -> ListPage:
        """The first page, or the one that `token` of the page before names.

        The list is consistent: of a version that is no smaller than any that was heard of before it
        was asked for. Raises ListExpired when the token is too old.
        """
        ...

    async def list_versions(self, token: str | None) -> ListPage:
        """As list_runs; of runs the metadata only."""
        ...

    def watch_runs(self, resource_version: str) -> AsyncIterator[Sequence[WatchEvent]]:
        """Events after `resource_version`, as many at a time as arrived together.

        Ends by itself after about a minute. Raises ListExpired when that version is
        forgotten.
        """
        ...

    async def list_namespaces(self, token: str | None) -> ListPage:
        """As list_runs; of namespaces the metadata only."""
        ...

    def watch_namespaces(self, resource_version: str) -> AsyncIterator[Sequence[WatchEvent]]:
        """As watch_runs; of namespaces the metadata only."""
        ...

    async def list_objects(self, resource: Resource, token: str | None) -> ListPage:
        """As list_runs; of a kind of the whole cluster."""
        ...

    def watch_objects(self, resource: Resource, resource_version: str) -> AsyncIterator[Sequence[WatchEvent]]:
        """As watch_runs; of a kind of the whole cluster."""
        ...

    async def delete_record(self, name: str, uid: str, resource_version: str) -> None:
        """Deletes a UsageRecord as it is in this version.

        Raises ClusterRefused (404; 409 where it has changed, or is another one of this name).
        """
        ...
