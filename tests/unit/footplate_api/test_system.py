"""Gauges of runs: which runs have them, and what they say."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from footplate_api.system.gauges import (
    MEASURED,
    Fingerprint,
    RunSnapshot,
    ScrapedRuns,
    exposition,
    format_run,
    latest_step_and_loss,
)
from footplate_api.system.phase_priority import group_by_priority
from footplate_api.system.status_numbers import StatusNumbers, parse_status
from footplate_contracts.names import Phase


def measured(**columns: float) -> tuple[float | None, ...]:
    """A row with these columns and no other."""
    assert columns.keys() <= set(MEASURED)
    return tuple(columns.get(name) for name in MEASURED)


def run(newest: tuple[float | None, ...] | None = None, **changes: Any) -> RunSnapshot:
    values: dict[str, Any] = {
        "fingerprint": Fingerprint(1, None, (0, 0)),
        "numbers": StatusNumbers(),
        "namespace": "research",
        "name": "gpt",
        "phase": "Running",
        "step": 5,
        "loss": 3.0,
        "newest": newest,
    }
    return RunSnapshot(**{**values, **changes})


def of(*runs: RunSnapshot) -> ScrapedRuns:
    return ScrapedRuns([format_run(known) for known in runs])


def samples(shown: ScrapedRuns | None) -> dict[str, list[tuple[dict[str, str], float]]]:
    """What Prometheus' own parser reads: family -> (labels, value)."""
    return {
        family.name: [(sample.labels, sample.value) for sample in family.samples]
        for family in text_string_to_metric_families(exposition(shown))
        if family.samples
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(run(), (5, 3.0), id="status-alone"),
        pytest.param(run(loss=None), (5, None), id="no-loss-yet"),
        pytest.param(run(measured(step=7, loss=2.5)), (7, 2.5), id="telemetry-is-ahead"),
        pytest.param(run(measured(step=7)), (7, math.nan), id="a-loss-that-is-no-number-shows"),
    ],
)
def test_where_a_run_stands(given: RunSnapshot, expected: tuple[int, float | None]) -> None:
    assert latest_step_and_loss(given) == pytest.approx(expected, nan_ok=True)


# Families whose samples are of the status, or of no row.
OF_NO_ROW = (
    "status",
    "loss",
    "telemetry_dropped",
    "telemetry_dropped_total",
    "checkpoint_seconds",
    "restarts",
    "cost_dollars",
    "energy_joules",
    "carbon_grams",
)


def test_labels_name_the_run_and_only_its_status_the_phase() -> None:
    said = samples(of(run(), run(name="new", phase=None, loss=None)))
    assert said["footplate_run_step"] == [
        ({"namespace": "research", "name": "gpt"}, 5),
        ({"namespace": "research", "name": "new"}, 5),
    ]
    assert [labels["name"] for labels, _ in said["footplate_run_loss"]] == ["gpt"]
    assert [labels["phase"] for labels, _ in said["footplate_run_status"]] == ["Running", ""]


def test_what_the_newest_row_measured_is_a_gauge_and_what_it_did_not_is_none() -> None:
    row = measured(step=7, time=90.5, tokens=4096, tokens_per_second=0.0, data_seconds=0.25, mfu_causal=0.375)
    said = samples(of(run(row), run(name="new")))
    of_rows = {
        (name.removeprefix("footplate_run_"), *sorted(set(labels.values()) - {"research", "gpt"})): value
        for name, found in said.items()
        for labels, value in found
        if labels.get("name") == "gpt" and name.removeprefix("footplate_run_") not in OF_NO_ROW
    }
    assert of_rows == {
        ("step",): 7,
        ("last_step_timestamp_seconds",): 90.5,
        ("tokens",): 4096,
        ("tokens_per_second",): 0.0,
        ("step_breakdown_seconds", "data"): 0.25,
        ("mfu_ratio", "causal"): 0.375,
    }


STATUS: dict[str, Any] = {
    "progress": {
        "percentage": 25.0,
        "estimatedRemainingSeconds": 600,
        "lastUpdatedTime": "2026-11-30T08:00:00Z",
    },
    "checkpoint": {"latestStep": 100, "lastCommittedTime": "2026-11-30T07:59:00Z"},
    "wallSeconds": {"productive": 90.0, "checkpointing": 1.5},
    "goodput": 0.875,
    "restarts": 3,
}
T0 = datetime(2026, 11, 30, 8, tzinfo=UTC).timestamp()


def test_what_the_status_says_in_numbers_is_shown() -> None:
    said = samples(of(run(numbers=parse_status(STATUS))))
    assert {
        "footplate_run_progress_ratio": 0.25,
        "footplate_run_estimated_end_timestamp_seconds": T0 + 600,
        "footplate_run_last_checkpoint_timestamp_seconds": T0 - 60,
        "footplate_run_checkpoint_seconds": 1.5,
        "footplate_run_goodput_ratio": 0.875,
        "footplate_run_restarts": 3,
    }.items() <= {name: found[0][1] for name, found in said.items()}.items()


@pytest.mark.parametrize(
    "status",
    [
        pytest.param({}, id="nothing"),
        pytest.param(
            {"progress": None, "checkpoint": [], "wallSeconds": 1, "goodput": "much"}, id="of-another-type"
        ),
        pytest.param({"progress": {"lastUpdatedTime": "soon", "percentage": "half"}}, id="no-times"),
    ],
)
def test_what_it_does_not_say_is_absent_and_counts_begin_at_0(status: dict[str, Any]) -> None:
    said = samples(of(run(numbers=parse_status(status))))
    assert parse_status(status) == StatusNumbers()
    assert said["footplate_run_restarts"][0][1] == said["footplate_run_checkpoint_seconds"][0][1] == 0
    assert not {name for name in said if "ratio" in name or "timestamp" in name}


def test_when_it_was_last_interrupted_is_shown_by_cause() -> None:
    """Of attempts that have ended, and by a cause; one of a later release is none of ours."""
    ended = [
        ("07:00", "NumericalDivergence"),
        ("07:40", "NumericalDivergence"),
        ("07:50", "Eclipse"),
        ("07:55", None),
        (None, "NodeLost"),
        ("soon", "NodeLost"),
    ]
    attempts: list[Any] = [
        {"end": end and f"2026-11-30T{end}:00Z", "cause": cause, "number": number}
        for number, (end, cause) in enumerate(ended, 1)
    ]
    said = samples(of(run(numbers=parse_status({"attempts": [*attempts, "none"]}))))
    found = said["footplate_run_last_failure_timestamp_seconds"]
    assert {labels["cause"]: value for labels, value in found} == {
        "NumericalDivergence": T0 - 20 * 60,
        "Unknown": T0 - 10 * 60,
    }


@pytest.mark.parametrize(
    ("said", "when"),
    [
        pytest.param({}, None, id="steps"),
        pytest.param({"phase": "rollout", "completedItems": 0}, T0, id="samples"),
        pytest.param({"phase": "scoring", "completedItems": 7}, T0, id="scores"),
        pytest.param({"phase": 1}, None, id="of-another-type"),
    ],
)
def test_when_ranks_have_got_on_in_a_rollout(said: dict[str, Any], when: float | None) -> None:
    progress = {**STATUS["progress"], **said}
    found = samples(of(run(numbers=parse_status({**STATUS, "progress": progress}))))
    shown = found.get("footplate_run_last_sample_timestamp_seconds", [])
    assert [value for _, value in shown] == ([] if when is None else [when])


def test_what_is_over_has_no_estimated_end() -> None:
    assert parse_status(STATUS | {"completionTime": "2026-11-30T08:05:00Z"}).estimated_end is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param(math.nan, "NaN", id="nan"),
        pytest.param(math.inf, "+Inf", id="infinite"),
        pytest.param(-math.inf, "-Inf", id="minus-infinite"),
        pytest.param(1e-300, "1e-300", id="tiny"),
        pytest.param(2.5, "2.5", id="usual"),
    ],
)
def test_numbers_are_written_as_prometheus_reads_them(value: float, text: str) -> None:
    lines = exposition(of(run(loss=value))).splitlines()
    assert f'footplate_run_loss{{name="gpt",namespace="research"}} {text}' in lines


def test_a_name_that_needs_escapes_is_one_label() -> None:
    name = 'a"b\\c\nd'
    [(labels, _)] = samples(of(run(name=name)))["footplate_run_step"]
    assert labels["name"] == name


def test_how_many_runs_there_are_and_how_many_have_no_gauges() -> None:
    said = samples(ScrapedRuns([], {"Running": 2, None: 1, "Queued": 1_200}, left_out=203))
    assert {labels["phase"]: value for labels, value in said["footplate_runs"]} == {
        "": 1,
        "Queued": 1_200,
        "Running": 2,
    }
    assert said["footplate_runs_dropped"] == [({}, 203)]
    assert said["footplate_api_exports_runs"] == [({}, 1)]


def test_a_replica_that_does_not_export_says_so_and_nothing_of_runs() -> None:
    assert samples(None) == {"footplate_api_exports_runs": [({}, 0)]}


def test_each_phase_has_its_rank_and_what_has_ended_none() -> None:
    known = [None, *(phase.value for phase in Phase), "Dreaming"]
    trains, begins, waits = group_by_priority(known)
    assert trains == ["Running", "Checkpointing", "Restarting", "Suspending"]
    assert begins == ["Starting", "Preflight", "Dreaming"]
    assert waits == [None, "Queued", "Admitted", "Suspended"]


def test_a_rank_that_nobody_has_is_not_asked_for() -> None:
    assert group_by_priority(["Queued", "Failed"]) == [["Queued"]]
