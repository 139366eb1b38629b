"""Configuration and services from which an application is built."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from footplate_api.db.backup_plan import BackupPlan
from footplate_api.db.database import Database
from footplate_api.db.revisions import scripts
from footplate_api.http.body_timeouts import BodyTimeout
from footplate_api.http.startup import Startup
from footplate_api.identity.access import AccessPolicy
from footplate_api.identity.authentication import TokenIssuer
from footplate_api.identity.reviews import Reviewer
from footplate_api.instruments import ApiMetrics, MirrorHealth
from footplate_api.kubernetes.client import KubernetesClient
from footplate_api.kubernetes.namespace_scope import NamespaceScope
from footplate_api.metrics.retention import RetentionLimits


def utc_now() -> datetime:
    """Return the current time; tests pass another clock."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class AppContext:
    """Configuration and services of an application."""

    database: Database
    cluster: KubernetesClient
    reviewer: Reviewer
    metrics: ApiMetrics
    mirror: MirrorHealth
    revision: str | None = None
    limits: RetentionLimits = field(default_factory=RetentionLimits)
    body_timeout: BodyTimeout = field(default_factory=BodyTimeout)
    access: AccessPolicy = field(default_factory=AccessPolicy)
    served: NamespaceScope = field(default_factory=NamespaceScope)
    room: int | None = None  # bytes that the database may take
    backups: BackupPlan | None = None  # None: none are made
    startup: Startup = field(default_factory=Startup)
    migrations: Path = field(default_factory=scripts)
    issuers: Sequence[TokenIssuer] = ()
    now: Callable[[], datetime] = utc_now
    clock: Callable[[], float] = time.monotonic  # seconds that never step: of who calls, and how often
    replica: str = field(default_factory=lambda: uuid.uuid4().hex)  # among those of one database
