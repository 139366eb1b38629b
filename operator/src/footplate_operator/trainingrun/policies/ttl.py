"""Time to live of objects that have ended."""

from __future__ import annotations

from datetime import datetime

from footplate_contracts.v1alpha1.types import Seconds


def is_expired(finished_at: datetime, ttl: Seconds, now: datetime) -> bool:
    """Return whether `ttl` seconds have passed since `finished_at`."""
    return remaining(finished_at, ttl, now) <= 0.0


def remaining(finished_at: datetime, ttl: Seconds, now: datetime) -> float:
    """Return the seconds until it expires; negative after that."""
    return ttl - (now - finished_at).total_seconds()
