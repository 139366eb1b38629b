"""When a run ended, as far as anybody can know; pure.

A status says it of a run that came to its end. Of one that a person deleted the API
server says it, to whoever watches. Of one that was found missing nobody does: what is
left then is the last sign of its life, and that is an estimate. The moment at which it
was found missing is never its end: hours that nobody used would be billed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from footplate_api import lenient
from footplate_api.ports import Manifest
from footplate_contracts.names import Phase

_PHASES: Final = frozenset(Phase)


@dataclass(frozen=True)
class Ending:
    """When a run ended, None while it has not; `estimated` where only its last sign of life is known."""

    at: datetime | None
    estimated: bool


NOT_ENDED: Final = Ending(None, False)


def told(created_at: datetime, status: Mapping[str, Any]) -> Ending:
    """What the status of a run that exists says.

    A release that has more phases than this one says by completionTime which of them are final.
    """
    phase, completed = status.get("phase"), lenient.time(status, "completionTime")
    known = Phase(phase) if isinstance(phase, str) and phase in _PHASES else None
    if known is not None and not known.terminal:
        return NOT_ENDED
    if completed is not None:
        return Ending(completed, False)
    return NOT_ENDED if known is None else Ending(last_sign(created_at, status, None), True)


def deleted(known: Ending, manifest: Manifest, heard_at: datetime) -> Ending:
    """Of a run whose deletion was heard of at `heard_at`: when that was asked for, where it is said."""
    if known.at is not None:
        return known
    return Ending(lenient.time(manifest["metadata"], "deletionTimestamp") or heard_at, False)


def missing(
    known: Ending,
    created_at: datetime,
    status: Mapping[str, Any],
    last_row: datetime | None,
    noticed_at: datetime,
) -> Ending:
    """Of a run that was found missing at `noticed_at`; `last_row` is the time of its newest metric row."""
    if known.at is not None and not known.estimated:
        return known
    return Ending(min(last_sign(created_at, status, last_row), noticed_at), True)


def last_sign(created_at: datetime, status: Mapping[str, Any], last_row: datetime | None) -> datetime:
    """The newest time at which something shows that the run lived."""
    seen = [
        created_at,
        last_row,
        lenient.time(lenient.mapping(status, "progress"), "lastUpdatedTime"),
        lenient.time(status, "phaseTime"),
        lenient.time(lenient.mapping(status, "checkpoint"), "time"),
    ]
    for attempt in lenient.items(status, "attempts"):
        seen += [lenient.time(attempt, "start"), lenient.time(attempt, "end")]
    return max(time for time in seen if time is not None)
