"""Kubernetes Events, for `kubectl describe`.

The name is derived from the content, so that an operator that died in between does not write an Event twice.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from footplate_operator.runtime.clock import format_time
from footplate_operator.runtime.kinds import Json, Kind
from footplate_operator.runtime.objects import KubernetesObject

_CONTROLLER: Final = "footplate.dev/operator"
_NOTE_LIMIT: Final = 1024


@dataclass(frozen=True)
class ObjectEvent:
    """An occurrence on an object; two with the same `once` are one."""

    reason: str
    note: str
    warning: bool
    once: str


def manifest(
    kind: Kind, regarding: KubernetesObject[Any, Any], event: ObjectEvent, instance: str, now: datetime
) -> Json:
    """Return the Event's manifest; `instance` is the reporting replica."""
    digest = hashlib.sha256(f"{regarding.uid}{event.once}".encode()).hexdigest()[:12]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{regarding.name}.{digest}", "namespace": regarding.namespace},
        "eventTime": format_time(now, "microseconds"),
        "reportingController": _CONTROLLER,
        "reportingInstance": instance[:128],
        "action": "Reconcile",
        "reason": event.reason[:128],
        "type": "Warning" if event.warning else "Normal",
        "note": event.note[:_NOTE_LIMIT],
        "regarding": {
            "apiVersion": kind.api_version,
            "kind": kind.name,
            "name": regarding.name,
            "namespace": regarding.namespace,
            "uid": regarding.uid,
        },
    }
