"""What the operator measures of runs."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

from footplate_contracts.names import Cause, Phase


class RunMetrics:
    """Gauges and counters in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.runs = Gauge("footplate_operator_runs", "TrainingRuns by phase.", ["phase"], registry=registry)
        self.restarts = Counter(
            "footplate_operator_restarts", "Interruptions of runs by cause.", ["cause"], registry=registry
        )
        for cause in Cause:
            self.restarts.labels(cause.value)

    def count_runs(self, phases: Mapping[str, int]) -> None:
        """Set the number of runs in every phase."""
        for phase in Phase:
            self.runs.labels(phase.value).set(phases.get(phase, 0))

    def count_restarts(self, before: Mapping[str, int], after: Mapping[str, int]) -> None:
        """Count what has interrupted a run since the status `before`."""
        for cause, count in after.items():
            self.restarts.labels(cause).inc(max(0, count - before.get(cause, 0)))
