"""What the newest row of a run's history shows as gauges.

A dashboard asks for the same numbers of all runs at once, which the history
answers for one. What a row did not measure has no sample: a gauge of zero
would be a lie.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client.core import GaugeMetricFamily

from footplate_contracts.metrics import COLUMNS, GaugeFamily

RUN: Final = ("namespace", "name")


@dataclass(frozen=True)
class Watched:
    """A run, and the last row of its newest generation if it has one."""

    run: Any
    newest: Any | None


def _columns_of_gauges() -> dict[GaugeFamily, dict[str, str]]:
    """Family -> column -> the value of the family's label, as the contract has them."""
    gauges: dict[GaugeFamily, dict[str, str]] = {}
    for column in COLUMNS:
        if column.shown is not None and column.shown.gauge is not None:
            gauges.setdefault(column.shown.gauge, {})[column.name] = column.shown.value
    return gauges


_GAUGES: Final = _columns_of_gauges()


def families(rows: Iterable[Watched]) -> list[GaugeMetricFamily]:
    """A sample for each of `rows` and column that was measured."""
    measured = [entry for entry in rows if entry.newest is not None]
    return [_family(gauge, columns, measured) for gauge, columns in _GAUGES.items()]


def _family(gauge: GaugeFamily, columns: dict[str, str], rows: Iterable[Watched]) -> GaugeMetricFamily:
    labels = RUN if gauge.label is None else (*RUN, gauge.label)
    family = GaugeMetricFamily(f"footplate_run_{gauge.name}", gauge.help, labels=labels)
    for entry in rows:
        for name, label in columns.items():
            value = getattr(entry.newest, name)
            if value is not None:
                family.add_metric((entry.run.namespace, entry.run.name, label)[: len(labels)], value)
    return family
