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


class Cluster(Protocol):
    """TrainingRuns in the Kubernetes API, and the namespaces that they are in.

    Every method raises ClusterUnavailable when the API server does not answer, and
    InstallationLacksRights when it refuses this program's own account.
    """

    async def identity(self) -> str:
        """What tells this cluster from any other: the uid of its namespace kube-system."""
        ...

    async def create_run(self, namespace: str, manifest: Manifest) -> Manifest:
        """Creates a run under strict validation; the object as stored.

        Raises ClusterRefused with the API server's status and message.
        """
        ...

    async def delete_run(self, namespace: str, name: str, uid: str | None) -> None:
        """Deletes the run of this name, if `uid` is given only that one.

        Raises ClusterRefused (404, 409 for another uid).
        """
        ...

    async def get_run(self, namespace: str, name: str) -> Manifest | None:
        """The run of this name as it is now; None where there is none. Both are names, not any text."""
        ...

    async def list_runs(self, token: str | None) -> ListPage:
        """The first page, or the one that `token` of the page before names.

        The list is consistent: of a version that is no smaller than any that was heard of before it
        was asked for. Raises ListExpired when the token is too old.
        """
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
