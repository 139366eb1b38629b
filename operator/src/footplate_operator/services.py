"""Components that one operator process has once, and every kind uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CollectorRegistry

from footplate_operator.api_access import ApiAccess
from footplate_operator.keys.keyring import CredentialSource
from footplate_operator.runtime.fence import FencedCluster
from footplate_operator.runtime.objects import Key
from footplate_operator.scope import Scope
from footplate_operator.usage.recorder import UsageRecorder


@dataclass(frozen=True)
class Services:
    """Services for one kind."""

    cluster: FencedCluster
    clock: Callable[[], datetime]  # in UTC
    requeue: Callable[[Key], None]  # into the kind's own queue
    registry: CollectorRegistry
    api: ApiAccess
    scope: Scope
    usage: UsageRecorder
    credentials: CredentialSource
