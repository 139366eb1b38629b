"""What is shown of runs as gauges and counters, in Prometheus' text format; pure.

A dashboard asks for the same numbers of all runs at once, which the history
answers for one. What a row did not measure, or a status does not say, has no
sample: a gauge of zero would be a lie. A stage's own numbers (`values`) have none
either: their names have no bound.

Written by hand: for 1,000 runs, 25,000 samples, prometheus_client takes 200 ms, which
sorts and escapes the same labels for each of them. And the lines of a run are made
apart from those of others, so that they can be kept until something of it changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple

from footplate_api.system.numbers import METHODS, Numbers, Spent
from footplate_api.system.text import escaped, head, number
from footplate_contracts.metrics import COLUMNS, GaugeFamily


class Fingerprint(NamedTuple):
    """What the lines of a run depend on; they are the same as long as it is."""

    resource_version: int
    place: tuple[int, int] | None  # of its newest row: number of the segment, step
    given_up: tuple[int, int]  # entries of telemetry: refused, and without room in an outbox


class Gauged(NamedTuple):
    """A run that has gauges: what the mirror knows of it, and the newest row of its history."""

    fingerprint: Fingerprint
    namespace: str
    name: str
    phase: str | None
    step: int
    loss: float | None
    numbers: Numbers  # of its status
    newest: Any | None  # attributes are those of StepMetrics


@dataclass(frozen=True, slots=True)
class Written:
    """The lines of a run, for each family of RUNS those that it has."""

    fingerprint: Fingerprint
    spent: Spent
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Shown:
    """All that one scrape shows of runs."""

    runs: Sequence[Written] = ()
    phases: Mapping[str | None, int] = field(default_factory=dict)  # of all that Kubernetes has
    left_out: int = 0  # runs that should have gauges, and for which there was no room


_METHODS: Final = tuple(f',method="{name}"' for name in METHODS)

Sample = tuple[str, float | None]
"""Labels beside the run's own as text, each behind a comma; the value, None where there is no sample."""


@dataclass(frozen=True)
class Family:
    """A metric that runs have, and what one of them has of it."""

    name: str
    help: str
    samples: Callable[[Gauged], Iterable[Sample]]
    type: Literal["gauge", "counter"] = "gauge"


def standing(run: Gauged) -> tuple[int, float | None]:
    """(step, loss) from the newest metric row, else from the status, which lags behind it."""
    if run.newest is None:
        return run.step, run.loss
    return run.newest.step, math.nan if run.newest.loss is None else run.newest.loss


def _given_up(run: Gauged) -> Iterator[Sample]:
    return zip((',reason="refused"', ',reason="overflowed"'), run.fingerprint.given_up, strict=True)


def _of_row(columns: Mapping[str, str]) -> Callable[[Gauged], Iterable[Sample]]:
    """The samples of a gauge of these columns of the newest row, each with its further labels."""

    def samples(run: Gauged) -> Iterable[Sample]:
        row = run.newest
        return () if row is None else [(labels, getattr(row, name)) for name, labels in columns.items()]

    return samples


def _families_of_rows() -> Iterator[Family]:
    """Those of the columns of the history, as the contract has them."""
    gauges: dict[GaugeFamily, dict[str, str]] = {}
    for column in COLUMNS:
        if column.shown is not None and (gauge := column.shown.gauge) is not None:
            label = "" if gauge.label is None else f',{gauge.label}="{column.shown.value}"'
            gauges.setdefault(gauge, {})[column.name] = label
    for gauge, columns in gauges.items():
        yield Family(f"footplate_run_{gauge.name}", gauge.help, _of_row(columns))


RUNS: Final = (
    Family("footplate_run_step", "Last finished step.", lambda run: [("", standing(run)[0])]),
    Family("footplate_run_loss", "Loss of that step.", lambda run: [("", standing(run)[1])]),
    Family(
        "footplate_run_status",
        "1, with the phase that the run is in.",
        lambda run: [(f',phase="{escaped(run.phase or "")}"', 1)],
    ),
    Family(
        "footplate_run_telemetry_given_up_total",
        "Entries of telemetry that the history will never have: refused, or without room in an outbox.",
        _given_up,
        type="counter",
    ),
    Family(
        "footplate_run_progress_ratio",
        "Steps done of all steps.",
        lambda run: [("", run.numbers.progress_ratio)],
    ),
    Family(
        "footplate_run_estimated_end_timestamp_seconds",
        "When its steps will be done at the speed that it had.",
        lambda run: [("", run.numbers.estimated_end)],
    ),
    Family(
        "footplate_run_last_step_timestamp_seconds",
        "When the newest row of its history was written.",
        _of_row({"time": ""}),
    ),
    Family(
        "footplate_run_last_checkpoint_timestamp_seconds",
        "When its newest durable checkpoint was complete.",
        lambda run: [("", run.numbers.last_checkpoint)],
    ),
    Family(
        "footplate_run_checkpoint_seconds_total",
        "How long it has stood still for checkpoints.",
        lambda run: [("", run.numbers.checkpointing)],
        type="counter",
    ),
    Family(
        "footplate_run_goodput_ratio",
        "Productive share of the time since it was admitted.",
        lambda run: [("", run.numbers.goodput_ratio)],
    ),
    Family(
        "footplate_run_restarts_total",
        "Interruptions in all.",
        lambda run: [("", run.numbers.restarts)],
        type="counter",
    ),
    Family(
        "footplate_run_last_failure_timestamp_seconds",
        "When it was last interrupted, by cause; of causes that its listed attempts have.",
        lambda run: [(f',cause="{cause}"', when) for cause, when in run.numbers.last_failures],
    ),
    Family(
        "footplate_run_cost_dollars_total",
        "What it has cost, of what has a price.",
        lambda run: [("", run.numbers.spent.dollars)],
        type="counter",
    ),
    Family(
        "footplate_run_energy_joules_total",
        "What it has consumed, by how that was found.",
        lambda run: zip(_METHODS, run.numbers.spent.joules, strict=True),
        type="counter",
    ),
    Family(
        "footplate_run_carbon_grams_total",
        "What that has emitted, CO2 equivalent.",
        lambda run: [("", run.numbers.spent.grams)],
        type="counter",
    ),
    *_families_of_rows(),
)


def written(run: Gauged, before: Written | None = None) -> Written:
    """What is exposed of a run; no less spent than was exposed `before`."""
    if before is not None and (spent := run.numbers.spent.least(before.spent)) != run.numbers.spent:
        run = run._replace(numbers=replace(run.numbers, spent=spent))
    labels = f'{{name="{escaped(run.name)}",namespace="{escaped(run.namespace)}"'
    lines = []
    for family in RUNS:
        start, text = family.name + labels, ""
        for more, value in family.samples(run):
            if value is not None:
                text += f"{start}{more}}} {number(value)}\n"
        lines.append(text)
    return Written(run.fingerprint, run.numbers.spent, tuple(lines))


def exposition(shown: Shown | None) -> str:
    """All that is said of runs; None where another replica exports them."""
    help_text = "1 on the one replica that exports the gauges of runs."
    exports = head("footplate_api_exports_runs", help_text) + (
        f"footplate_api_exports_runs {number(shown is not None)}\n"
    )
    return exports if shown is None else exports + "".join(_parts(shown))


def _parts(shown: Shown) -> Iterator[str]:
    yield head("footplate_runs", "Runs that Kubernetes has, by phase.")
    for phase, count in sorted((phase or "", count) for phase, count in shown.phases.items()):
        yield f'footplate_runs{{phase="{escaped(phase)}"}} {number(count)}\n'
    yield head("footplate_runs_left_out", "Runs that should have gauges and have none, for want of room.")
    yield f"footplate_runs_left_out {number(shown.left_out)}\n"
    for place, family in enumerate(RUNS):
        yield head(family.name, family.help, family.type)
        yield from (run.lines[place] for run in shown.runs)
