"""End time of a run, as far as it is known; pure.

The status has it for a run that finished. The API server's watch has it for a run that a person deleted. For
a run that was found missing, the last sign of activity is an estimate. The time at which the run was found
missing is never its end: hours without usage would be billed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from footplate_api.kubernetes.client import Manifest
from footplate_api.serialization import tolerant_json
from footplate_contracts.names import Phase

_PHASES: Final = frozenset(Phase)


@dataclass(frozen=True)
class RunEnd:
    """End of a run, None before; `estimated` if it is only the last sign of activity."""

    at: datetime | None
    estimated: bool


NOT_ENDED: Final = RunEnd(None, False)


def end_from_status(created_at: datetime, status: Mapping[str, Any]) -> RunEnd:
    """Return the end of an existing run by its status.

    A phase that only later releases have is final if there is a completionTime.
    """
    phase, completed = status.get("phase"), tolerant_json.time_at(status, "completionTime")
    known = Phase(phase) if isinstance(phase, str) and phase in _PHASES else None
    if known is not None and not known.is_terminal:
        return NOT_ENDED
    if completed is not None:
        return RunEnd(completed, False)
    return NOT_ENDED if known is None else RunEnd(last_activity(created_at, status, None), True)


def end_of_deleted(known: RunEnd, manifest: Manifest, heard_at: datetime) -> RunEnd:
    """Return the end of a deleted run: the one that is known, else the deletionTimestamp, else `heard_at`."""
    if known.at is not None:
        return known
    return RunEnd(tolerant_json.time_at(manifest["metadata"], "deletionTimestamp") or heard_at, False)


def end_of_missing(
    known: RunEnd,
    created_at: datetime,
    status: Mapping[str, Any],
    last_row: datetime | None,
    noticed_at: datetime,
) -> RunEnd:
    """Return the end of a run found missing at `noticed_at`; `last_row` is its newest metric row's time."""
    if known.at is not None and not known.estimated:
        return known
    return RunEnd(min(last_activity(created_at, status, last_row), noticed_at), True)


def last_activity(created_at: datetime, status: Mapping[str, Any], last_row: datetime | None) -> datetime:
    """Return the newest time at which the run was active."""
    seen = [
        created_at,
        last_row,
        tolerant_json.time_at(tolerant_json.mapping(status, "progress"), "lastUpdatedTime"),
        tolerant_json.time_at(status, "lastTransitionTime"),
        tolerant_json.time_at(tolerant_json.mapping(status, "checkpoint"), "lastCommittedTime"),
    ]
    for attempt in tolerant_json.items(status, "attempts"):
        seen += [tolerant_json.time_at(attempt, "start"), tolerant_json.time_at(attempt, "end")]
    return max(time for time in seen if time is not None)
