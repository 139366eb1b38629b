"""When alerts of runs are told, to the minute, and when they are not; by promtool.

Replicas of the API take turns in exporting runs, scrapes fail, and runs that have ended are shown for a
quarter of an hour.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from tools.monitoring.rules.runs import FLEET, RUNS

from tests.support.prometheus import Case, all_both_ways, fires, quiet, series_of, verdicts

TINY = {"namespace": "team-a", "name": "tiny"}
OF_TINY = {"job": "footplate-api", **TINY}


def of_run(metric: str, replica: int = 0, /, **labels: str) -> str:
    """A series of the run team-a/tiny, or of another `name`, as a replica of the API shows it."""
    return series_of("footplate-api", f"footplate_run_{metric}", replica, **{**TINY, **labels})


def phase(value: str, replica: int = 0, /) -> str:
    """The series of that run's phase."""
    return of_run("status", replica, phase=value)


def spent(account: str) -> str:
    return series_of("footplate-operator", "footplate_operator_run_seconds_total", account=account)


def interrupted(cause: str, replica: int = 0, /) -> str:
    """The series of when that run was interrupted by it."""
    return of_run("last_failure_timestamp_seconds", replica, cause=cause)


def many(metric: str, values: str, runs: range, **labels: str) -> dict[str, str]:
    """The same of several runs."""
    return {of_run(metric, name=f"run-{number}", **labels): values for number in runs}


STEP, STEP_SECONDS, SAVED = "last_step_timestamp_seconds", "step_seconds", "last_checkpoint_timestamp_seconds"
SAMPLE, LEFT_OUT = "last_sample_timestamp_seconds", "checkpoints_skipped"
OF_STEPS: dict[str, Case] = {
    "no-step-for-forty-minutes": fires(
        "FootplateRunNoStep",
        41,
        {of_run(STEP): "0x41", of_run(STEP_SECONDS): "5x41", phase("Running"): "1x41"},
        "41m 0s",
        **OF_TINY,
    ),
    "another-replica-exports-and-scrapes-fail": fires(
        "FootplateRunNoStep",
        41,
        {
            of_run(STEP): "0x20 stale",
            phase("Running"): "1x20 stale",
            of_run(STEP, 1): "_x23 0x5 stale _x2 0x20",
            phase("Running", 1): "_x23 1x5 stale _x2 1x20",
        },
        "41m 0s",
        **OF_TINY,
    ),
    "a-step-each-minute": quiet(
        "FootplateRunNoStep", 90, {of_run(STEP): "0+60x90", phase("Running"): "1x90"}
    ),
    "a-step-takes-ten-minutes": fires(
        "FootplateRunNoStep",
        130,  # ten times as long, and half an hour
        {of_run(STEP): "0x130", of_run(STEP_SECONDS): "600x130", phase("Running"): "1x130"},
        "2h 10m 0s",
        **OF_TINY,
    ),
    "it-samples-for-hours": quiet(
        "FootplateRunNoStep",
        130,
        {of_run(STEP): "0x130", of_run(SAMPLE): "0+60x130", phase("Running"): "1x130"},
    ),
    "a-rollout-stands-still": fires(
        "FootplateRunNoStep",
        120,  # ten minutes after its last token, and half an hour
        {of_run(STEP): "0x130", of_run(SAMPLE): "0+60x80 4800x50", phase("Running"): "1x130"},
        "2h 0m 0s",
        **OF_TINY,
    ),
    "it-waits-for-a-checkpoint": quiet(
        "FootplateRunNoStep", 90, {of_run(STEP): "0x90", phase("Checkpointing"): "1x90"}
    ),
    "it-has-ended": quiet(
        "FootplateRunNoStep",
        41,
        {
            of_run(STEP): "0x45",
            phase("Running"): "1x34 stale",
            phase("Succeeded"): "_x34 1x10",
        },
    ),
    "it-was-resumed-after-a-day": quiet(
        "FootplateRunNoStep",
        130,
        {of_run(STEP): "0x120 7260+60x20", phase("Suspended"): "1x99 stale", phase("Running"): "_x99 1x40"},
    ),
    "two-hours-without-a-checkpoint": fires(
        "FootplateRunNoCheckpoint", 120, {phase("Running"): "1x120"}, **OF_TINY
    ),
    "two-hours-after-the-last-one": fires(
        "FootplateRunNoCheckpoint", 130, {phase("Running"): "1x130", of_run(SAVED): "0x130"}, **OF_TINY
    ),
    "no-checkpoint-of-three-replicas": fires(
        "FootplateRunNoCheckpoint",
        130,
        {
            phase("Running"): "1x60 stale",
            of_run(SAVED): "0x60 stale",
            phase("Running", 1): "_x63 1x20 stale",
            of_run(SAVED, 1): "_x63 0x20 stale",
            phase("Running", 2): "_x88 1x50",
            of_run(SAVED, 2): "_x88 0x50",
        },
        **OF_TINY,
    ),
    "restarts-save-nothing": fires(
        "FootplateRunNoCheckpoint",
        120,
        {phase("Running"): "1x50 stale _x19 1x60", phase("Restarting"): "_x50 1x19 stale"},
        **OF_TINY,
    ),
    "saved-within-two-hours": quiet(
        "FootplateRunNoCheckpoint", 200, {phase("Running"): "1x200", of_run(SAVED): "0x109 6600x100"}
    ),
    "suspended-within-two-hours": quiet(
        "FootplateRunNoCheckpoint",
        200,
        {phase("Running"): "1x100 stale _x19 1x90", phase("Suspended"): "_x100 1x19 stale"},
    ),
    "storage-fails": fires(
        "FootplateCheckpointsFail",
        10,
        {
            of_run(LEFT_OUT): "1x2 stale _x2 1x9",
            phase("Running"): "1x2 stale _x3 1 stale",
            phase("Checkpointing"): "_x9 1x9",
        },
        "1",
        **OF_TINY,
    ),
    "storage-works-again": quiet(
        "FootplateCheckpointsFail",
        15,
        {of_run(LEFT_OUT): "2x4 stale", phase("Running"): "1x15"},
    ),
    "storage-failed-before-it-was-suspended": quiet(
        "FootplateCheckpointsFail",
        15,
        {
            of_run(LEFT_OUT): "2x15",
            phase("Running"): "1x3 stale",
            phase("Suspended"): "_x3 1x15",
        },
    ),
}

RESTARTS = "restarts_total"
OF_LIVES: dict[str, Case] = {
    "it-failed": fires("FootplateRunFailed", 1, {phase("Failed"): "1x15"}, **OF_TINY),
    "it-failed-a-quarter-of-an-hour-ago": quiet("FootplateRunFailed", 16, {phase("Failed"): "1x14 stale"}),
    "it-succeeded": quiet("FootplateRunFailed", 9, {phase("Succeeded"): "1x15"}),
    "five-times-within-an-hour": fires(
        "FootplateRunRestarts",
        61,
        {of_run(RESTARTS): "3x11 4x11 5x11 6x11 7x11 8x9"},
        "5",
        **OF_TINY,
    ),
    "four-times-within-an-hour": quiet(
        "FootplateRunRestarts", 65, {of_run(RESTARTS): "3x14 4x14 5x14 6x14 7x9"}
    ),
    "before-and-after-another-replica-exports": fires(
        "FootplateRunRestarts",
        53,
        {
            of_run(RESTARTS): "0x9 1x9 2x9 3x9 stale",
            of_run(RESTARTS, 1): "_x42 3x4 4x4 5x20",
        },
        "5",
        **OF_TINY,
    ),
    "many-before-another-replica-exports": quiet(
        "FootplateRunRestarts", 61, {of_run(RESTARTS): "9x30 stale", of_run(RESTARTS, 1): "_x31 9x40"}
    ),
    "a-run-of-that-name-is-made-anew": quiet("FootplateRunRestarts", 61, {of_run(RESTARTS): "9x30 0x40"}),
    "it-starts-and-restarts": fires(
        "FootplateRunDoesNotTrain",
        45,
        {phase("Starting"): "1x20 stale", phase("Restarting"): "_x24 1x30"},
        **OF_TINY,
    ),
    "it-trained-meanwhile": quiet(
        "FootplateRunDoesNotTrain",
        75,
        {
            phase("Starting"): "1x30 stale",
            phase("Running"): "_x30 1x9 stale",
            phase("Restarting"): "_x40 1x40",
        },
    ),
    "it-waits-for-admission": quiet("FootplateRunDoesNotTrain", 90, {phase("Queued"): "1x90"}),
    "four-hours-in-the-queue": fires(
        "FootplateRunWaits", 240, {phase("Queued"): "1x99 stale _x3 1x200"}, **OF_TINY
    ),
    "suspended-by-a-person": quiet("FootplateRunWaits", 300, {phase("Suspended"): "1x300"}),
    "rows-are-refused": fires(
        "FootplateTelemetryDropped",
        10,
        {
            of_run("telemetry_dropped_total", reason="refused"): "0x8 1x9",
            of_run("telemetry_dropped_total", reason="overflowed"): "0x20",
        },
        reason="refused",
        **OF_TINY,
    ),
    "rows-were-refused-long-ago": quiet(
        "FootplateTelemetryDropped", 30, {of_run("telemetry_dropped_total", reason="refused"): "0x8 3x30"}
    ),
    "another-replica-shows-them": quiet(
        "FootplateTelemetryDropped",
        9,
        {
            of_run("telemetry_dropped_total", reason="refused"): "3x4 stale",
            of_run("telemetry_dropped_total", 1, reason="refused"): "_x5 3x9",
        },
    ),
    "a-loss-was-nan": fires(
        "FootplateLossNotFinite", 10, {interrupted("NumericalDivergence"): "_x9 480x20"}, **OF_TINY
    ),
    "it-was-nan-and-another-replica-shows-it": fires(
        "FootplateLossNotFinite",
        10,
        {
            interrupted("NumericalDivergence"): "_x9 480 stale",
            interrupted("NumericalDivergence", 1): "_x12 480x20",
        },
        **OF_TINY,
    ),
    "it-was-nan-an-hour-ago": quiet(
        "FootplateLossNotFinite", 69, {interrupted("NumericalDivergence"): "_x9 480x70"}
    ),
    "a-node-was-lost": quiet("FootplateLossNotFinite", 12, {interrupted("NodeLost"): "_x9 480x20"}),
}

GPU = "DCGM_FI_DEV_GPU_UTIL"
PODS = of_run("membership_info", pod="tiny-w0-0", role="worker")
HONOURED = f'{GPU}{{namespace="team-a",pod="tiny-w0-0",gpu="%d"}}'
RENAMED = (
    f'{GPU}{{namespace="gpu-operator",pod="dcgm-exporter-x",exported_namespace="team-a",'
    'exported_pod="tiny-w0-0",gpu="%d"}'
)
GAP = "1x5 stale _x3 1x20"
OF_GPUS: dict[str, Case] = {
    "both-gpus-are-idle": fires(
        "FootplateGpusIdle",
        15,
        {HONOURED % 0: "3.8x15", HONOURED % 1: "6x15", PODS: GAP, phase("Running"): GAP},
        "4.9",
        **OF_TINY,
    ),
    "the-exporters-labels-are-renamed": fires(
        "FootplateGpusIdle",
        15,
        {RENAMED % 0: "2x15", RENAMED % 1: "4x15", PODS: "1x15", phase("Running"): "1x15"},
        "3.0",
        **OF_TINY,
    ),
    "a-gpu-works": quiet(
        "FootplateGpusIdle",
        30,
        {HONOURED % 0: "0x30", HONOURED % 1: "10.2x30", PODS: "1x30", phase("Running"): "1x30"},
    ),
    "idle-for-less-than-half-an-hour": quiet(
        "FootplateGpusIdle",
        30,
        {HONOURED % 0: "100x10 0x20", PODS: "1x30", phase("Running"): "1x30"},
    ),
    "it-does-not-train-yet": quiet(
        "FootplateGpusIdle", 30, {HONOURED % 0: "0x30", PODS: "1x30", phase("Starting"): "1x30"}
    ),
    "idle-gpus-of-nobodys-run": quiet(
        "FootplateGpusIdle",
        30,
        {f'{GPU}{{namespace="team-b",pod="other-0"}}': "0x30", PODS: "1x30", phase("Running"): "1x30"},
    ),
}

OF_FLEET: dict[str, Case] = {
    "three-of-ten-at-once": fires(
        "FootplateManyRunsRestarted",
        5,
        many("status", "1x9", range(10), phase="Running")
        | many(RESTARTS, "0x3 1x9", range(3))
        | many(RESTARTS, "7x9", range(3, 10)),
        "3",
        job="footplate-api",
    ),
    "two-of-three": quiet(
        "FootplateManyRunsRestarted",
        9,
        many("status", "1x9", range(3), phase="Running") | many(RESTARTS, "0x3 1x9", range(2)),
    ),
    "four-of-twenty": quiet(
        "FootplateManyRunsRestarted",
        9,
        many("status", "1x9", range(20), phase="Running") | many(RESTARTS, "0x3 1x9", range(4)),
    ),
    "three-quarters-of-two-runs-time": fires(
        "FootplateGoodputLow",
        90,  # two runs have held nodes for half of the hour from minute 30 on
        {
            spent("productive"): "0+90x130",
            spent("restarting"): "0+30x130",
            spent("queued"): "0+900x130",
            spent("suspended"): "0+900x130",
        },
        "75%",
        job="footplate-operator",
    ),
    "four-fifths-and-a-little": quiet(
        "FootplateGoodputLow", 130, {spent("productive"): "0+97x130", spent("restarting"): "0+23x130"}
    ),
    "half-a-run-is-no-fleet": quiet(
        "FootplateGoodputLow", 130, {spent("productive"): "0+10x130", spent("starting"): "0+20x130"}
    ),
    "a-run-is-left-out": fires(
        "FootplateLeftOut",
        15,
        {
            series_of("footplate-api", "footplate_runs_dropped"): "1x15",
            series_of("footplate-api", "footplate_run_pods_dropped"): "0x15",
        },
        "1",
        job="footplate-api",
        what="runs",
    ),
    "a-pod-is-left-out": fires(
        "FootplateLeftOut",
        15,
        {series_of("footplate-api", "footplate_run_pods_dropped"): "1x15"},
        "1",
        job="footplate-api",
        what="pods",
    ),
    "costs-are-left-out": fires(
        "FootplateLeftOut",
        15,
        {series_of("footplate-api", "footplate_costs_dropped"): "1x15"},
        "1",
        job="footplate-api",
        what="costs",
    ),
    "none-is-left-out": quiet(
        "FootplateLeftOut", 30, {series_of("footplate-api", "footplate_runs_dropped"): "7x14 0x20"}
    ),
}
CASES = OF_STEPS | OF_LIVES | OF_GPUS | OF_FLEET


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """What promtool finds wrong, by case."""
    return verdicts(tmp_path_factory.mktemp("promtool"), CASES)


@pytest.mark.parametrize("case", CASES)
def test_an_alert_is_told_when_it_is_true(case: str, said: Mapping[str, str]) -> None:
    assert said.get(case, "") == ""


def test_each_is_seen_told_and_not_told() -> None:
    assert all_both_ways(CASES.values()) == {known.name for known in (*RUNS, *FLEET)}
