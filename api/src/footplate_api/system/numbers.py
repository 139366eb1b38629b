"""What the status of a run says in numbers; pure.

The status may be of any release: what it does not say is absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from footplate_api import lenient


@dataclass(frozen=True, slots=True)
class Numbers:
    """Times in seconds since the Unix epoch; a count of what never happened is 0."""

    progress_ratio: float | None = None
    estimated_end: float | None = None
    last_checkpoint: float | None = None
    checkpointing: float = 0.0  # seconds that it stood still for checkpoints
    goodput_ratio: float | None = None
    restarts: int = 0


def numbers(status: Mapping[str, Any]) -> Numbers:
    """What `status` says."""
    percentage = lenient.number(lenient.mapping(status, "progress"), "percentage")
    return Numbers(
        progress_ratio=None if percentage is None else percentage / 100,
        estimated_end=_estimated_end(status),
        last_checkpoint=_seconds(lenient.mapping(status, "checkpoint"), "time"),
        checkpointing=lenient.number(lenient.mapping(status, "time"), "checkpointing") or 0.0,
        goodput_ratio=lenient.number(status, "goodput"),
        restarts=lenient.whole(status, "restarts") or 0,
    )


def _estimated_end(status: Mapping[str, Any]) -> float | None:
    """None of a run that has ended: it is no estimate any more."""
    if lenient.time(status, "completionTime") is not None:
        return None
    progress = lenient.mapping(status, "progress")
    seen = _seconds(progress, "lastUpdatedTime")
    remaining = lenient.number(progress, "estimatedRemainingSeconds")
    return None if seen is None or remaining is None else seen + remaining


def _seconds(parent: Mapping[str, Any], key: str) -> float | None:
    found = lenient.time(parent, key)
    return None if found is None else found.timestamp()
