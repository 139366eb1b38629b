"""Pace of telemetry batches: our own, unless the API requests another one.

One API has a thousand senders. When it is busy it answers with how long to stay away, and each answer may
hold how long to gather rows before the next batch.
"""

from __future__ import annotations

import math
from typing import Final

from footplate_contracts.backoff import backoff_seconds
from footplate_contracts.reports import TelemetryReceipt
from footplate_elastic.coordinator import timing

BUSY: Final = frozenset({429, 503})  # statuses that may say when to come back


def parse_retry_after(status: int, retry_after: str | None) -> float | None:
    """Return the seconds of Retry-After in an answer; None without them, or for a date."""
    if status not in BUSY or retry_after is None:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds > 0.0 else None


def retry_delay(failures: int, chance: float, told: float | None = None) -> float:
    """Return seconds to wait after `failures` in a row, of which the last requested `told`.

    `chance` in [0, 1) spreads runs. The requested delay is never undercut, except for the longest wait of
    all.
    """
    if told is not None:
        return min(told * (1.0 + timing.LONGER_THAN_TOLD * chance), timing.LONGEST_TOLD)
    return backoff_seconds(
        failures, first=timing.FIRST_RETRY, longest=timing.LONGEST_RETRY, jitter=(0.5, 1.0), chance=chance
    )


def next_batch_delay(receipt: TelemetryReceipt | None) -> float:
    """Return seconds to gather rows before the batch after the one that `receipt` is for."""
    asked = receipt.gather_seconds if receipt is not None else None
    if asked is None or math.isnan(asked):
        return timing.GATHER
    return min(max(asked, timing.SHORTEST_GATHER), timing.LONGEST_GATHER)
