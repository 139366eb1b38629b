"""What the newest row of a run's history shows as gauges.

A dashboard asks for the same numbers of all runs at once, which the history
answers for one. What a row did not measure has no sample: a gauge of zero
would be a lie. Not here is the validation loss, which few rows have: the
history tells it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client.core import GaugeMetricFamily

RUN: Final = ("namespace", "name")


@dataclass(frozen=True)
class Gauge:
    """One family: columns of `StepMetric`, by the value of `label` where there are several."""

    name: str
    help: str
    columns: Mapping[str, str]  # value of the label -> column
    label: str | None = None

    def family(self, rows: Iterable[Any]) -> GaugeMetricFamily:
        """A sample for each of `rows`, as `repository.watched` gives them, and column that was measured."""
        labels = RUN if self.label is None else (*RUN, self.label)
        family = GaugeMetricFamily(f"footplate_run_{self.name}", self.help, labels=labels)
        for row in rows:
            for which, column in self.columns.items():
                value = None if row.StepMetric is None else getattr(row.StepMetric, column)
                if value is not None:
                    family.add_metric((row.namespace, row.name, which)[: len(labels)], value)
        return family


GAUGES: Final = (
    Gauge("tokens", "Valid tokens trained on.", {"": "tokens"}),
    Gauge("tokens_per_second", "Valid tokens a second, of the newest step.", {"": "tokens_per_second"}),
    Gauge("gradient_norm", "Before clipping, of the newest step.", {"": "gradient_norm"}),
    Gauge("learning_rate", "Of the newest step.", {"": "learning_rate"}),
    Gauge("memory_bytes", "Peak of rank 0.", {"": "memory_bytes"}),
    Gauge("step_seconds", "From row to row of the history.", {"": "step_seconds"}),
    Gauge(
        "step_part_seconds",
        "What the newest step spent its time on.",
        {
            part: f"{part}_seconds"
            for part in ("data", "compute", "communication", "optimizer", "checkpoint", "validation")
        },
        label="part",
    ),
    Gauge(
        "mfu_ratio",
        "Model FLOPs over the peak of the devices, by what counts as a FLOP of attention.",
        {"full": "mfu", "causal": "mfu_causal"},
        label="convention",
    ),
)
