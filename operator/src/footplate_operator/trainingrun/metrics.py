"""Prometheus metrics of runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from footplate_contracts.names import Cause, Phase
from footplate_contracts.v1alpha1.status import TimeStatus
from footplate_operator.trainingrun.recovery import CompletedRecovery

_UNKNOWN: Final = "Unknown"
_RECOVERIES: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0)


class RunMetrics:
    """Gauges and counters in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.runs = Gauge("footplate_operator_runs", "TrainingRuns by phase.", ["phase"], registry=registry)
        self.restarts = Counter(
            "footplate_operator_restarts", "Interruptions of runs by cause.", ["cause"], registry=registry
        )
        for cause in (*Cause, _UNKNOWN):
            self.restarts.labels(str(cause))
        self.recoveries = Histogram(
            "footplate_operator_recovery_seconds",
            "Time from an interruption until the run trains again, by cause.",
            ["cause"],
            buckets=_RECOVERIES,
            registry=registry,
        )
        self.recovery_parts = Histogram(
            "footplate_operator_recovery_breakdown_seconds",
            "Parts of the time from an interruption until the run trains again, by cause.",
            ["cause", "part"],
            buckets=_RECOVERIES,
            registry=registry,
        )
        self.seconds = Counter(
            "footplate_operator_run_seconds",
            "Wall time of runs by what they spent it on, as in status.wallSeconds.",
            ["account"],
            registry=registry,
        )
        for account in TimeStatus.model_fields:
            self.seconds.labels(account)

    def count_runs(self, phases: Mapping[str, int]) -> None:
        """Set the number of runs in every phase."""
        for phase in Phase:
            self.runs.labels(phase.value).set(phases.get(phase, 0))

    def count_recovery(self, recovered: CompletedRecovery) -> None:
        """Observe a completed recovery's seconds, by part and in total."""
        cause = _known(recovered.cause)
        for part, seconds in recovered.seconds.items():
            self.recovery_parts.labels(cause, part.value).observe(seconds)
        self.recoveries.labels(cause).observe(sum(recovered.seconds.values()))

    def count_time(self, before: TimeStatus | None, after: TimeStatus | None) -> None:
        """Count the growth of a run's time accounts since the status `before`."""
        spent, known = (after or TimeStatus()).model_dump(), (before or TimeStatus()).model_dump()
        for account, seconds in spent.items():
            self.seconds.labels(account).inc(max(0.0, seconds - known[account]))

    def count_restarts(self, before: Mapping[str, int], after: Mapping[str, int]) -> None:
        """Count a run's failures by cause since the status `before`."""
        for cause, count in after.items():
            self.restarts.labels(_known(cause)).inc(max(0, count - before.get(cause, 0)))


def _known(cause: str) -> str:
    """Return `cause` if this release knows it, else "Unknown": other values would add series for ever."""
    return str(cause) if cause in frozenset(Cause) else _UNKNOWN
