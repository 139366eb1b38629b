"""Numbers from the status of a run, for gauges; pure.

The status may be of any release: a missing number is absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from footplate_api.serialization import tolerant_json
from footplate_contracts.names import Cause
from footplate_contracts.v1alpha1.status import EnergyByMethod

METHODS: Final = tuple(EnergyByMethod.model_fields)
_CAUSES: Final = frozenset(Cause)
_UNKNOWN: Final = "Unknown"  # of a newer release, whose names have no bound


class RunTotals(NamedTuple):
    """Amounts that a run has used; None is unknown."""

    dollars: float | None = None
    joules: tuple[float | None, ...] = (None,) * len(METHODS)  # by each of METHODS
    grams: float | None = None

    def least(self, before: RunTotals) -> RunTotals:
        """Return amounts no less than `before`, as a counter needs, whatever was corrected since."""
        return RunTotals(
            most(self.dollars, before.dollars),
            tuple(most(now, then) for now, then in zip(self.joules, before.joules, strict=True)),
            most(self.grams, before.grams),
        )


NOTHING: Final = RunTotals(0.0, (0.0,) * len(METHODS), 0.0)


def most(now: float | None, before: float | None) -> float | None:
    """Return the larger of both, or the known one."""
    if now is None or before is None:
        return before if now is None else now
    return max(now, before)


@dataclass(frozen=True, slots=True)
class StatusNumbers:
    """Numbers of a status: times in seconds since the Unix epoch, 0 as the count of what never happened."""

    progress_ratio: float | None = None
    estimated_end: float | None = None
    last_sample: float | None = None  # when ranks were seen last in a rollout, or at scoring; else absent
    last_checkpoint: float | None = None
    checkpointing: float = 0.0  # seconds that it stood still for checkpoints
    goodput_ratio: float | None = None
    restarts: int = 0
    last_failures: tuple[tuple[str, float], ...] = ()  # causes, and when an attempt ended by each last
    spent: RunTotals = NOTHING


def parse_status(status: Mapping[str, Any]) -> StatusNumbers:
    """Read the numbers of `status`."""
    percentage = tolerant_json.number(tolerant_json.mapping(status, "progress"), "percentage")
    return StatusNumbers(
        progress_ratio=None if percentage is None else percentage / 100,
        estimated_end=_estimated_end(status),
        last_sample=_last_sample(status),
        last_checkpoint=_seconds(tolerant_json.mapping(status, "checkpoint"), "lastCommittedTime"),
        checkpointing=tolerant_json.number(tolerant_json.mapping(status, "wallSeconds"), "checkpointing")
        or 0.0,
        goodput_ratio=tolerant_json.number(status, "goodput"),
        restarts=tolerant_json.get_int(status, "restarts") or 0,
        last_failures=tuple(sorted(_last_failures(status).items())),
        spent=_spent(status),
    )


def _spent(status: Mapping[str, Any]) -> RunTotals:
    """Return zeros before the first pod; amounts without a price or a measurement are unknown."""
    cost = tolerant_json.mapping(status, "cost")
    if not cost:
        return NOTHING
    joules = tolerant_json.mapping(cost, "joules")
    kilograms = tolerant_json.number(cost, "carbonKilograms")
    return RunTotals(
        tolerant_json.number(cost, "dollars"),
        tuple(tolerant_json.number(joules, method) or 0.0 if joules else None for method in METHODS),
        None if kilograms is None else kilograms * 1000,
    )


def _last_failures(status: Mapping[str, Any]) -> Mapping[str, float]:
    """Return cause -> time of its last failure, among the listed attempts, which are the newest ones."""
    found: dict[str, float] = {}
    for attempt in tolerant_json.items(status, "attempts"):
        cause, end = tolerant_json.text(attempt, "cause"), _seconds(attempt, "end")
        if cause is not None and end is not None:
            known = cause if cause in _CAUSES else _UNKNOWN
            found[known] = max(end, found.get(known, end))
    return found


def _last_sample(status: Mapping[str, Any]) -> float | None:
    """Return the last progress in a rollout; None while ranks take steps, which are no samples."""
    progress = tolerant_json.mapping(status, "progress")
    return _seconds(progress, "lastUpdatedTime") if tolerant_json.text(progress, "phase") else None


def _estimated_end(status: Mapping[str, Any]) -> float | None:
    """Return the estimated end; None for a run that has ended."""
    if tolerant_json.time_at(status, "completionTime") is not None:
        return None
    progress = tolerant_json.mapping(status, "progress")
    seen = _seconds(progress, "lastUpdatedTime")
    remaining = tolerant_json.number(progress, "estimatedRemainingSeconds")
    return None if seen is None or remaining is None else seen + remaining


def _seconds(parent: Mapping[str, Any], key: str) -> float | None:
    found = tolerant_json.time_at(parent, key)
    return None if found is None else found.timestamp()
