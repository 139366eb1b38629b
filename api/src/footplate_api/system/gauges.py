"""What the newest row of a run's history shows as gauges, in Prometheus' text format; pure.

A dashboard asks for the same numbers of all runs at once, which the history
answers for one. What a row did not measure has no sample: a gauge of zero
would be a lie. A stage's own numbers (`values`) have none either: their names
have no bound.

Written by hand: for 1,000 runs, 18,000 samples, prometheus_client takes 150 ms, which
sorts and escapes the same labels for each of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from footplate_contracts.metrics import COLUMNS, GaugeFamily

_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


@dataclass(frozen=True, slots=True)
class Gauged:
    """A run that has gauges: what the mirror knows of it, and the newest row of its history."""

    namespace: str
    name: str
    phase: str | None
    step: int
    loss: float | None
    newest: Any | None  # attributes are those of StepMetrics
    given_up: tuple[int, int] = (0, 0)  # entries of telemetry: refused, and without room in an outbox


@dataclass(frozen=True)
class Shown:
    """All that one scrape shows of runs."""

    runs: Sequence[Gauged] = ()
    phases: Mapping[str | None, int] = field(default_factory=dict)  # of all that Kubernetes has
    left_out: int = 0  # runs that should have gauges, and for which there was no room


@dataclass(frozen=True)
class Family:
    """A metric and its samples, each with its labels as text."""

    name: str
    help: str
    samples: list[tuple[str, float]]
    type: str = "gauge"


def _columns_of_gauges() -> dict[GaugeFamily, dict[str, str]]:
    """Family -> column -> the value of the family's label, as the contract has them."""
    gauges: dict[GaugeFamily, dict[str, str]] = {}
    for column in COLUMNS:
        if column.shown is not None and column.shown.gauge is not None:
            gauges.setdefault(column.shown.gauge, {})[column.name] = column.shown.value
    return gauges


_GAUGES: Final = _columns_of_gauges()


def standing(run: Gauged) -> tuple[int, float | None]:
    """(step, loss) from the newest metric row, else from the status, which lags behind it."""
    if run.newest is None:
        return run.step, run.loss
    return run.newest.step, math.nan if run.newest.loss is None else run.newest.loss


def exposition(shown: Shown | None) -> str:
    """The gauges of runs; None where another replica exports them."""
    exports = Family(
        "footplate_api_exports_runs",
        "1 on the one replica that exports the gauges of runs.",
        [("", float(shown is not None))],
    )
    families = [exports] if shown is None else [exports, *_families(shown)]
    return "".join(line for family in families for line in _lines(family))


def _families(shown: Shown) -> Iterator[Family]:
    phases = [(f'{{phase="{_escaped(phase or "")}"}}', count) for phase, count in shown.phases.items()]
    yield Family("footplate_runs", "Runs that Kubernetes has, by phase.", sorted(phases))
    said = "Runs that should have gauges and have none, for want of room."
    yield Family("footplate_runs_left_out", said, [("", shown.left_out)])
    labelled = [
        (f'name="{_escaped(run.name)}",namespace="{_escaped(run.namespace)}"', run) for run in shown.runs
    ]
    stands = [(f"{{{labels}}}", *standing(run)) for labels, run in labelled]
    yield Family("footplate_run_step", "Last finished step.", [(labels, step) for labels, step, _ in stands])
    losses = [(labels, loss) for labels, _, loss in stands if loss is not None]
    yield Family("footplate_run_loss", "Loss of that step.", losses)
    phase = [(f'{{{labels},phase="{_escaped(run.phase or "")}"}}', 1.0) for labels, run in labelled]
    yield Family("footplate_run_status", "1, with the phase that the run is in.", phase)
    yield Family(
        "footplate_run_telemetry_given_up_total",
        "Entries of telemetry that the history will never have: refused, or without room in an outbox.",
        [
            (f'{{{labels},reason="{reason}"}}', count)
            for labels, run in labelled
            for reason, count in zip(("refused", "overflowed"), run.given_up, strict=True)
        ],
        type="counter",
    )
    measured = [(labels, run.newest) for labels, run in labelled if run.newest is not None]
    for gauge, columns in _GAUGES.items():
        yield Family(f"footplate_run_{gauge.name}", gauge.help, list(_samples(gauge, columns, measured)))


def _samples(
    gauge: GaugeFamily, columns: Mapping[str, str], measured: Iterable[tuple[str, Any]]
) -> Iterator[tuple[str, float]]:
    suffixes = {
        name: "}" if gauge.label is None else f',{gauge.label}="{value}"}}' for name, value in columns.items()
    }
    for labels, row in measured:
        for name, suffix in suffixes.items():
            value = getattr(row, name)
            if value is not None:
                yield f"{{{labels}{suffix}", value


def _lines(family: Family) -> Iterator[str]:
    yield f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.type}\n"
    for labels, value in family.samples:
        yield f"{family.name}{labels} {_number(value)}\n"


def _number(value: float) -> str:
    number = float(value)
    if math.isfinite(number):
        return repr(number)
    return "NaN" if math.isnan(number) else "+Inf" if number > 0 else "-Inf"


def _escaped(text: str) -> str:
    return text.translate(_ESCAPES)
