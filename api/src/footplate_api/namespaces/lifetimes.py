"""Selects a run's namespace among the namespaces that have had one name; pure.

Nothing is created in a namespace before the namespace itself, and a name is free again
only when everything in the former namespace is gone. So a run is of the youngest namespace that is no
younger than the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from footplate_api.kubernetes.client import Manifest


@dataclass(frozen=True)
class NamespaceLifetime:
    """A namespace among all that have had one name."""

    uid: str
    created_at: datetime


def owner_uid(generations: Sequence[NamespaceLifetime], created_at: datetime) -> str | None:
    """Return the uid of the namespace of a run created at `created_at`; `generations` are oldest first."""
    owners = [generation.uid for generation in generations if generation.created_at <= created_at]
    return owners[-1] if owners else None


def row(manifest: Manifest) -> dict[str, Any]:
    """Return column -> value for the table `namespaces`.

    Raises ValueError if the object is none that an API server would send.
    """
    try:
        metadata = manifest["metadata"]
        return {
            "uid": metadata["uid"],
            "name": metadata["name"],
            "resource_version": int(metadata["resourceVersion"]),
            "created_at": datetime.fromisoformat(metadata["creationTimestamp"]),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a namespace of an API server: {error!r}") from error
