"""Which of the namespaces that had one name a run belongs to; pure.

Nothing is created in a namespace before the namespace itself, and a name is free again
only when all in the former one is gone. So a run is of the youngest that is no younger
than the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from footplate_api.ports import Manifest


@dataclass(frozen=True)
class Generation:
    """One of the namespaces that had a name."""

    uid: str
    created_at: datetime


def owner(generations: Sequence[Generation], created_at: datetime) -> str | None:
    """The uid of the one that a run of `created_at` is of; `generations` from the oldest to the youngest."""
    owners = [generation.uid for generation in generations if generation.created_at <= created_at]
    return owners[-1] if owners else None


def row(manifest: Manifest) -> dict[str, Any]:
    """Column -> value for the table `namespaces`.

    Raises ValueError when the object is none that an API server would send.
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
