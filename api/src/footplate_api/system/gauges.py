"""Gauges and counters of runs, in Prometheus' text format; pure.

A dashboard reads the same numbers of all runs at once, which the history serves for one. A value that a row
or a status does not have gets no sample: a gauge of zero would be wrong. A stage's own numbers (`values`)
have none either: their names have no bound.

Formatted by hand: for 1,000 runs, 25,000 samples, prometheus_client takes 200 ms, as it sorts and escapes the
same labels for each of them. And each run's lines are formatted separately, so that they can be cached until
a value of the run changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any, Final, Literal, NamedTuple

from footplate_api.system.status_numbers import METHODS, RunTotals, StatusNumbers
from footplate_api.system.text import escaped, head, number
from footplate_contracts.metrics import COLUMNS, GaugeFamily


class Fingerprint(NamedTuple):
    """Version of all that the lines of a run depend on; equal fingerprints mean equal lines."""

    resource_version: int
    place: tuple[int, int] | None  # of its newest row: number of the segment, step
    given_up: tuple[int, int]  # entries of telemetry: refused, and without room in an outbox


class RunSnapshot(NamedTuple):
    """Run with gauges: its row in the mirror, and the newest row of its history."""

    fingerprint: Fingerprint
    namespace: str
    name: str
    phase: str | None
    step: int
    loss: float | None
    numbers: StatusNumbers  # of its status
    newest: tuple[Any, ...] | None  # the columns MEASURED of that row


Value = float | str | tuple[tuple[str, float], ...] | None
"""Of a sample. Of the one whose value is always 1 the phase, which its label says; of last failures their
causes, which labels say, and times. None: there is none.
"""


@dataclass(frozen=True, slots=True)
class RunLines:
    """Formatted lines of a run, one text for each family of RUNS, and the VALUES in them."""

    fingerprint: Fingerprint
    spent: RunTotals
    values: tuple[Value, ...]
    lines: tuple[str, ...]


@dataclass(frozen=True)
class ScrapedRuns:
    """Runs in one scrape."""

    runs: Sequence[RunLines] = ()
    phases: Mapping[str | None, int] = field(default_factory=dict)  # of all that Kubernetes has
    left_out: int = 0  # runs that should have gauges, and for which there was no room


MEASURED: Final = tuple(
    column.name
    for column in COLUMNS
    if column.name in ("step", "time", "loss") or (column.shown is not None and column.shown.gauge)
)
"""The columns of a row that runs have samples of."""

_STEP, _LOSS = MEASURED.index("step"), MEASURED.index("loss")
_UNMEASURED: Final = (None,) * len(MEASURED)
_OF_STATUS: Final = (
    "progress_ratio",
    "estimated_end",
    "last_sample",
    "last_checkpoint",
    "checkpointing",
    "goodput_ratio",
    "restarts",
    "last_failures",
)
_of_status: Final[Callable[[StatusNumbers], tuple[Value, ...]]] = attrgetter(*_OF_STATUS)

VALUES: Final = (
    *("step", "loss", "phase", "refused", "overflowed"),
    *_OF_STATUS,
    *("dollars", *METHODS, "grams"),
    *(f"newest_{name}" for name in MEASURED),
)
"""What the lines of a run are made of, in the order of `_values`."""


@dataclass(frozen=True)
class RunMetricFamily:
    """Metric family of runs."""

    name: str
    help: str
    samples: Mapping[str, str]  # one of VALUES -> its labels beside the run's own, each behind a comma
    type: Literal["gauge", "counter"] = "gauge"


def latest_step_and_loss(run: RunSnapshot) -> tuple[int, float | None]:
    """Return (step, loss) from the newest metric row, else from the status, which lags behind it."""
    if run.newest is None:
        return run.step, run.loss
    loss = run.newest[_LOSS]
    return run.newest[_STEP], math.nan if loss is None else loss


def _values(run: RunSnapshot) -> tuple[Value, ...]:
    spent = run.numbers.spent
    return (
        *latest_step_and_loss(run),
        run.phase or "",
        *run.fingerprint.given_up,
        *_of_status(run.numbers),
        spent.dollars,
        *spent.joules,
        spent.grams,
        *(_UNMEASURED if run.newest is None else run.newest),
    )


def _families_of_rows() -> Iterator[RunMetricFamily]:
    """Yield the families of the history's columns, as the contract declares them."""
    gauges: dict[GaugeFamily, dict[str, str]] = {}
    for column in COLUMNS:
        if column.shown is not None and (gauge := column.shown.gauge) is not None:
            label = "" if gauge.label is None else f',{gauge.label}="{column.shown.value}"'
            gauges.setdefault(gauge, {})[f"newest_{column.name}"] = label
    for gauge, columns in gauges.items():
        yield RunMetricFamily(f"footplate_run_{gauge.name}", gauge.help, columns)


RUNS: Final = (
    RunMetricFamily("footplate_run_step", "Last finished step.", {"step": ""}),
    RunMetricFamily("footplate_run_loss", "Loss of the last finished step.", {"loss": ""}),
    RunMetricFamily("footplate_run_status", "Always 1; a label has the run's phase.", {"phase": ""}),
    RunMetricFamily(
        "footplate_run_telemetry_dropped_total",
        "Telemetry entries missing in the history: refused by the API, or dropped from a full outbox.",
        {name: f',reason="{name}"' for name in ("refused", "overflowed")},
        type="counter",
    ),
    RunMetricFamily("footplate_run_progress_ratio", "Finished share of all steps.", {"progress_ratio": ""}),
    RunMetricFamily(
        "footplate_run_estimated_end_timestamp_seconds",
        "Estimated end of its last step at the speed so far.",
        {"estimated_end": ""},
    ),
    RunMetricFamily(
        "footplate_run_last_step_timestamp_seconds",
        "Time of the newest row in its history.",
        {"newest_time": ""},
    ),
    RunMetricFamily(
        "footplate_run_last_sample_timestamp_seconds",
        "Time of its last progress in a rollout or in scoring; absent outside of them.",
        {"last_sample": ""},
    ),
    RunMetricFamily(
        "footplate_run_last_checkpoint_timestamp_seconds",
        "Completion time of its newest durable checkpoint.",
        {"last_checkpoint": ""},
    ),
    RunMetricFamily(
        "footplate_run_checkpoint_seconds_total",
        "Time in which checkpoints blocked training.",
        {"checkpointing": ""},
        type="counter",
    ),
    RunMetricFamily(
        "footplate_run_goodput_ratio",
        "Productive share of the time since admission.",
        {"goodput_ratio": ""},
    ),
    RunMetricFamily("footplate_run_restarts_total", "Total interruptions.", {"restarts": ""}, type="counter"),
    RunMetricFamily(
        "footplate_run_last_failure_timestamp_seconds",
        "Time of its last interruption by each cause among its listed attempts.",
        {"last_failures": ""},
    ),
    RunMetricFamily(
        "footplate_run_cost_dollars_total",
        "Cost of its priced node time.",
        {"dollars": ""},
        type="counter",
    ),
    RunMetricFamily(
        "footplate_run_energy_joules_total",
        "Energy consumption, by method of measurement.",
        {name: f',method="{name}"' for name in METHODS},
        type="counter",
    ),
    RunMetricFamily(
        "footplate_run_carbon_grams_total",
        "Emissions of that energy as CO2 equivalent.",
        {"grams": ""},
        type="counter",
    ),
    *_families_of_rows(),
)

# Of each of RUNS its name, and (place in VALUES, labels) of its samples.
_SAMPLES: Final = tuple(
    (family.name, tuple((VALUES.index(value), labels) for value, labels in family.samples.items()))
    for family in RUNS
)
# The position in RUNS of each of VALUES; None for step and loss, which `latest_step_and_loss` has.
_SHOWN_IN: Final = tuple(
    next((place for place, family in enumerate(RUNS) if value in family.samples), None) for value in VALUES
)


def format_run(run: RunSnapshot, before: RunLines | None = None) -> RunLines:
    """Format the lines of a run, with no less spent than `before`.

    Lines of `before`, which is of the same run, stay as long as their values are the same: for a run that
    trains few change from one scrape to the next.
    """
    if before is not None and (spent := run.numbers.spent.least(before.spent)) != run.numbers.spent:
        run = run._replace(numbers=replace(run.numbers, spent=spent))
    values = _values(run)
    labels = f'{{name="{escaped(run.name)}",namespace="{escaped(run.namespace)}"'
    lines = [""] * len(RUNS) if before is None else list(before.lines)
    for place in range(len(RUNS)) if before is None else _changed(values, before.values):
        lines[place] = _lines(place, labels, values)
    return RunLines(run.fingerprint, run.numbers.spent, values, tuple(lines))


def _changed(now: tuple[Value, ...], before: tuple[Value, ...]) -> set[int]:
    """Return the indices in RUNS of changed values; two zeros count as changed, as their signs may differ."""
    return {
        place
        for place, value, former in zip(_SHOWN_IN, now, before, strict=True)
        if value is not former and place is not None and (value != former or value == 0)
    }


def _lines(place: int, labels: str, values: tuple[Value, ...]) -> str:
    """Format a run's lines of the family at `place` in RUNS."""
    name, samples = _SAMPLES[place]
    text = ""
    for at, more in samples:
        value = values[at]
        if isinstance(value, str):
            text += f'{name}{labels},phase="{escaped(value)}"}} 1.0\n'
        elif isinstance(value, tuple):
            for cause, when in value:
                text += f'{name}{labels},cause="{cause}"}} {number(when)}\n'
        elif value is not None:
            text += f"{name}{labels}{more}}} {number(value)}\n"
    return text


def exposition(shown: ScrapedRuns | None) -> str:
    """Format all metrics of runs; None where another replica exports them."""
    help_text = "1 on the one replica that exports the metrics of runs, else 0."
    exports = head("footplate_api_exports_runs", help_text) + (
        f"footplate_api_exports_runs {number(shown is not None)}\n"
    )
    return exports if shown is None else exports + "".join(_parts(shown))


def _parts(shown: ScrapedRuns) -> Iterator[str]:
    yield head("footplate_runs", "Runs in Kubernetes, by phase.")
    for phase, count in sorted((phase or "", count) for phase, count in shown.phases.items()):
        yield f'footplate_runs{{phase="{escaped(phase)}"}} {number(count)}\n'
    yield head("footplate_runs_dropped", "Runs without gauges, beyond the limit.")
    yield f"footplate_runs_dropped {number(shown.left_out)}\n"
    for place, family in enumerate(RUNS):
        yield head(family.name, family.help, family.type)
        yield "".join([run.lines[place] for run in shown.runs])
