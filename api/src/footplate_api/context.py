"""Parts of the application that routes and middleware need, whatever builds them."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from footplate_api.db.database import Database
from footplate_api.http.body_timeouts import BodyTimeout
from footplate_api.instruments import MirrorHealth
from footplate_api.kubernetes.client import KubernetesClient
from footplate_api.kubernetes.namespace_scope import NamespaceScope


class PublicMetrics(Protocol):
    """Policy of access, as far as scrapes need it."""

    @property
    def metrics_public(self) -> bool:
        """True if scrapes need no right."""


class Context(Protocol):
    """Configuration and services of the application that answers a request."""

    @property
    def database(self) -> Database:
        """Database with the history."""

    @property
    def cluster(self) -> KubernetesClient:
        """Kubernetes API server, by the API's own account."""

    @property
    def mirror(self) -> MirrorHealth:
        """State of the reflectors."""

    @property
    def revision(self) -> str | None:
        """Commit of the build."""

    @property
    def body_timeout(self) -> BodyTimeout:
        """Time that the body of a request may take."""

    @property
    def access(self) -> PublicMetrics:
        """Policy of access."""

    @property
    def served(self) -> NamespaceScope:
        """Namespaces whose runs are served."""

    def now(self) -> datetime:
        """Return the current time."""
