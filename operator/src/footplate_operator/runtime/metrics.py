"""The operator's own metrics: few, with bounded labels and base units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from footplate_contracts.names import Cause, Phase

_DURATIONS: Final = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """One registry per operator, so that tests share nothing."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconciles = Counter(
            "footplate_operator_reconciles",
            "Reconciliations by result.",
            ["result"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "footplate_operator_reconcile_duration_seconds",
            "Duration of one reconciliation.",
            buckets=_DURATIONS,
            registry=self.registry,
        )
        self.depth = Gauge(
            "footplate_operator_queue_runs", "Runs that wait to be reconciled.", registry=self.registry
        )
        self.runs = Gauge(
            "footplate_operator_runs", "TrainingRuns by phase.", ["phase"], registry=self.registry
        )
        self.restarts = Counter(
            "footplate_operator_restarts",
            "Interruptions of runs by cause.",
            ["cause"],
            registry=self.registry,
        )
        self.leader = Gauge(
            "footplate_operator_leader_ratio", "1 while this replica leads.", registry=self.registry
        )
        for cause in Cause:
            self.restarts.labels(cause.value)
        for result in ("success", "error"):
            self.reconciles.labels(result)

    def count_runs(self, phases: Mapping[Phase, int]) -> None:
        """Set the number of runs in every phase."""
        for phase in Phase:
            self.runs.labels(phase.value).set(phases.get(phase, 0))

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
