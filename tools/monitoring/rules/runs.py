"""Alerts of runs, by name and of all together; pure.

A scrape that fails ends every series at once, and so does a replica that exports runs no more. So what is
asked of a run is the newest word of five minutes, whichever replica said it: no gap has an alert begin anew.
A run that has ended is shown for a quarter of an hour, in its last phase: what is told of training asks for a
phase in which it trains.
"""

from __future__ import annotations

from typing import Final

from tools.monitoring.rules.alert import Alert, Severity

_RUN: Final = "{{ $labels.namespace }}/{{ $labels.name }}"


def _newest(metric: str) -> str:
    return f"max by (job, namespace, name) (last_over_time({metric}[5m]))"


def _in(*phases: str) -> str:
    """1 for each run that is, or has been within five minutes, in one of `phases`."""
    return _newest(f'footplate_run_status{{phase=~"{"|".join(phases)}"}}')


_TRAINING: Final = _in("Running", "Checkpointing")
_UNDER_WAY: Final = _in("Running", "Checkpointing", "Restarting")
_LAST_STEP: Final = _newest("footplate_run_last_step_timestamp_seconds")
_UTILISATION: Final = "DCGM_FI_DEV_GPU_UTIL"

RUNS: Final = (
    Alert(
        "FootplateRunFailed",
        'max by (job, namespace, name) (footplate_run_status{phase="Failed"}) == 1',
        "1m",
        Severity.WARNING,
        f"Run {_RUN} has failed",
        f"{_RUN} has failed within the last quarter of an hour, and is not restarted.",
    ),
    # Half an hour, as a first step that compiles may take: nothing tells it from one that hangs.
    Alert(
        "FootplateRunNoStep",
        f"""
        (
          time() - {_LAST_STEP} > 600
          unless time() - {_LAST_STEP} < 10 * {_newest("footplate_run_step_seconds")}
          unless time() - {_newest("footplate_run_last_sample_timestamp_seconds")} < 600
        )
        and {_in("Running")}
        """,
        "30m",
        Severity.WARNING,
        f"Run {_RUN} finishes no step",
        f"{_RUN} is Running, and its newest known step was finished {{{{ $value | humanizeDuration }}}} ago.",
    ),
    Alert(
        "FootplateRunNoCheckpoint",
        f"""
        {_UNDER_WAY}
        unless time() - {_newest("footplate_run_last_checkpoint_timestamp_seconds")} < 600
        """,
        "2h",
        Severity.WARNING,
        f"Run {_RUN} saves no checkpoint",
        f"{_RUN} has trained for two hours, and no checkpoint of that time is durable: the next interruption"
        " loses all of it.",
    ),
    Alert(
        "FootplateCheckpointsFail",
        f"{_newest('footplate_run_checkpoints_skipped')} > 0 and {_TRAINING}",
        "10m",
        Severity.WARNING,
        f"Checkpoints of {_RUN} fail",
        f"{_RUN} continues to train, but its storage has failed "
        + "{{ $value }} checkpoints since the last durable one.",
    ),
    Alert(
        "FootplateRunRestarts",
        "sum by (job, namespace, name) (increase(footplate_run_restarts_total[1h])) >= 5",
        "1m",
        Severity.WARNING,
        f"Run {_RUN} is interrupted repeatedly",
        f"{_RUN} was interrupted " + '{{ $value | printf "%.0f" }} times within an hour.',
    ),
    Alert(
        "FootplateRunDoesNotTrain",
        _in("Starting", "Preflight", "Restarting", "Suspending"),
        "45m",
        Severity.WARNING,
        f"Run {_RUN} holds nodes and does not train",
        f"{_RUN} has been starting, restarting or suspending for three quarters of an hour.",
    ),
    Alert(
        "FootplateRunWaits",
        _in("Queued", "Admitted"),
        "4h",
        Severity.INFO,
        f"Run {_RUN} waits",
        f"{_RUN} has waited for four hours to be admitted.",
    ),
    Alert(
        "FootplateTelemetryDropped",
        "sum by (job, namespace, name, reason) (increase(footplate_run_telemetry_dropped_total[15m])) > 0",
        "1m",
        Severity.WARNING,
        f"The history of {_RUN} has a hole",
        f"Rows or checkpoints of {_RUN} will never be in its history: " + "{{ $labels.reason }}.",
    ),
    # Where the exporter's labels are not honoured, the pod that uses a GPU is `exported_pod`.
    Alert(
        "FootplateGpusIdle",
        f"""
        avg by (job, namespace, name) (
          avg by (namespace, pod) (
            avg_over_time({_UTILISATION}{{pod!="",exported_pod=""}}[30m])
            or label_replace(label_replace(
              avg_over_time({_UTILISATION}{{exported_pod!=""}}[30m]),
              "pod", "$1", "exported_pod", "(.+)"), "namespace", "$1", "exported_namespace", "(.+)")
          )
          * on (namespace, pod) group_right ()
          max by (job, namespace, name, pod) (last_over_time(footplate_run_membership_info[5m]))
        ) < 5
        and {_in("Running")}
        """,
        "15m",
        Severity.WARNING,
        f"GPUs of {_RUN} are idle",
        f"{_RUN} is Running, and its GPUs were used " + '{{ $value | printf "%.1f" }} % of half an hour.',
    ),
    # By the cause, as the rank that finds it ends before it writes a row.
    Alert(
        "FootplateLossNotFinite",
        f"""
        {_newest('footplate_run_last_failure_timestamp_seconds{cause="NumericalDivergence"}')}
          > time() - 3600
        """,
        "1m",
        Severity.WARNING,
        f"Loss or gradient of {_RUN} was not finite",
        f"Within an hour {_RUN} was interrupted because its loss or a gradient was NaN or infinite; it is"
        " retried twice.",
    ),
)

_RESTARTED: Final = "sum by (job, namespace, name) (increase(footplate_run_restarts_total[15m])) > 0"
_SPENT: Final = "sum by (job) (rate(footplate_operator_run_seconds_total{%s}[1h]))"
_COUNTED: Final = _SPENT % 'account!~"queued|suspended"'

FLEET: Final = (
    Alert(
        "FootplateManyRunsRestarted",
        f"""
        count by (job) ({_RESTARTED})
          > clamp_min(0.2 * count by (job) ({_UNDER_WAY}), 2)
        """,
        "1m",
        Severity.CRITICAL,
        "Many runs were interrupted at once",
        "{{ $value }} runs were interrupted within a quarter of an hour, more than a fifth of those that"
        " train: look for a common cause.",
    ),
    # What a person suspended is not held against the fleet; and of less than a run there is no fleet.
    Alert(
        "FootplateGoodputLow",
        f"""
        {_SPENT % 'account="productive"'} / {_COUNTED} < 0.8
        and {_COUNTED} >= 1
        """,
        "1h",
        Severity.WARNING,
        "Runs spend much of their time without progress",
        "Of the time of all runs that hold nodes, {{ $value | humanizePercentage }} went into steps that"
        " were kept, in the last two hours.",
    ),
    Alert(
        "FootplateLeftOut",
        """
        label_replace(max by (job) (footplate_runs_dropped), "what", "runs", "", "") > 0
        or
        label_replace(max by (job) (footplate_run_pods_dropped), "what", "pods", "", "") > 0
        or
        label_replace(max by (job) (footplate_costs_dropped), "what", "costs", "", "") > 0
        """,
        "15m",
        Severity.INFO,
        "Some {{ $labels.what }} have no series",
        "{{ $labels.what }} without series, for lack of room: {{ $value }}. No panel shows them, and no alert"
        " includes them.",
    ),
)
