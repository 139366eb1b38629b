"""Alerts of the operator, of the API, and of what both share; pure.

What is true of the database or of Kubernetes is said by each replica of the API: the best word counts where
one that works is enough, and the worst where all speak of the same.
"""

from __future__ import annotations

from typing import Final

from tools.monitoring.rules.alert import Alert, Severity
from tools.monitoring.rules.scope import API as API_JOB
from tools.monitoring.rules.scope import OPERATOR as OPERATOR_JOB

OPERATOR: Final = (
    Alert(
        "FootplateOperatorAbsent",
        "absent(footplate_operator_build_info)",
        "5m",
        Severity.CRITICAL,
        "No operator is scraped",
        "Prometheus has had no answer of any replica of {{ $labels.job }} for five minutes. Without an"
        " operator training continues, but no run is admitted, restarted, suspended or ended.",
    ),
    Alert(
        "FootplateNoLeader",
        "max by (job) (footplate_operator_leader_election_master_status) == 0",
        "3m",
        Severity.CRITICAL,
        "No replica of the operator leads",
        "Replicas of {{ $labels.job }} answer, but none has led for three minutes: no run is admitted,"
        " restarted, suspended or ended.",
    ),
    Alert(
        "FootplateWatchSilent",
        "time() - max by (job, kind) (last_over_time("
        "footplate_operator_watch_last_event_timestamp_seconds[5m])) > 150",
        "5m",
        Severity.WARNING,
        "The operator receives no events of {{ $labels.kind }}",
        "The watch of {{ $labels.kind }} has had no event for"
        " {{ $value | humanizeDuration }}; the API server sends one at least every minute.",
    ),
    Alert(
        "FootplateQueueWaits",
        """
        histogram_quantile(0.9,
          sum by (job, le) (rate(footplate_operator_workqueue_queue_duration_seconds_bucket[10m]))
        ) > 5
        or
        sum by (job) (footplate_operator_workqueue_depth) > 0
          and sum by (job) (rate(footplate_operator_controller_reconcile_total[10m])) == 0
        """,
        "10m",
        Severity.WARNING,
        "Runs wait to be reconciled",
        "A tenth of the reconciliations of {{ $labels.job }} wait for more than five seconds, or it has"
        " finished none for ten minutes: it reacts late to changes of runs.",
    ),
    # A run that always fails is tried each minute; the errors of one outage are over after five.
    Alert(
        "FootplateReconcileErrors",
        'sum by (job) (increase(footplate_operator_controller_reconcile_total{result="error"}[5m])) >= 3',
        "15m",
        Severity.WARNING,
        "Reconciliations fail",
        "{{ $value | humanize }} reconciliations of {{ $labels.job }} have failed in five minutes, for a"
        " quarter of an hour now: at least one run is not managed.",
    ),
)

BOTH: Final = (
    Alert(
        "FootplateProgramRestarts",
        f"""
        max by (job, pod) (
          changes(process_start_time_seconds{{job="{OPERATOR_JOB}"}}[1h])
          or changes(process_start_time_seconds{{job="{API_JOB}"}}[1h])
        ) >= 3
        """,
        "1m",
        Severity.WARNING,
        "{{ $labels.pod }} restarts repeatedly",
        "{{ $labels.pod }} of {{ $labels.job }} was restarted {{ $value }} times within an hour.",
    ),
    Alert(
        "FootplateLoopLag",
        "max by (job, pod) (footplate_operator_loop_lag_seconds or footplate_api_loop_lag_seconds) > 2",
        "10m",
        Severity.WARNING,
        "{{ $labels.pod }} is blocked",
        "The event loop of {{ $labels.pod }} of {{ $labels.job }} is blocked for up to"
        " {{ $value | humanizeDuration }} at a time, for ten minutes now.",
    ),
)

API: Final = (
    Alert(
        "FootplateApiAbsent",
        "absent(footplate_api_build_info)",
        "5m",
        Severity.CRITICAL,
        "No API is scraped",
        "Prometheus has had no answer of any replica of {{ $labels.job }} for five minutes. Runs continue"
        " to train, and agents keep their telemetry as long as they have room.",
    ),
    Alert(
        "FootplateApiErrors",
        """
        sum by (job) (rate(footplate_api_requests_total{status=~"5.."}[5m]))
          / sum by (job) (rate(footplate_api_requests_total[5m])) > 0.05
        """,
        "10m",
        Severity.WARNING,
        "The API answers with errors",
        "{{ $value | humanizePercentage }} of all answers of {{ $labels.job }} have a status of 500 or more.",
    ),
    Alert(
        "FootplateMirrorBehind",
        "time() - max by (job) (last_over_time(footplate_api_mirror_last_event_timestamp_seconds[5m])) > 180",
        "5m",
        Severity.WARNING,
        "The API does not follow Kubernetes",
        "{{ $labels.job }} has had no event of TrainingRuns for {{ $value | humanizeDuration }}: its state"
        " of runs is as old.",
    ),
    Alert(
        "FootplateDatabaseNearlyFull",
        """
        min by (job, limit) (footplate_api_database_free_bytes) / (
          min by (job, limit) (footplate_api_database_free_bytes)
          + on (job) group_left () max by (job) (footplate_api_database_bytes)
        ) < 0.1
        """,
        "15m",
        Severity.WARNING,
        "The database has little room left",
        "{{ $value | humanizePercentage }} of the database's room is free ({{ $labels.limit }}). Histories"
        " use at most three quarters of it, so something else grows.",
    ),
    Alert(
        "FootplateDatabaseFull",
        """
        label_replace(max by (job) (footplate_api_database_full) == 1, "limit", "volume", "", "")
        or
        min by (job, limit) (footplate_api_database_free_bytes{limit="room"}) == 0
        """,
        "1m",
        Severity.CRITICAL,
        "The database is full",
        "The database of {{ $labels.job }} has no room left ({{ $labels.limit }}). While a volume is full"
        " nothing is stored: telemetry stays with its senders as long as they have room, and writes are"
        " refused.",
    ),
    Alert(
        "FootplateDatabaseCrowded",
        "max by (job) (footplate_api_database_over_quota) == 1",
        "30m",
        Severity.WARNING,
        "Deleting rows makes no room in the database",
        "More than three quarters of the database's room is used by other data than metric rows, which is"
        " never deleted: enlarge the room.",
    ),
    Alert(
        "FootplateBackupFails",
        "sum by (job) (increase(footplate_api_backup_failures_total[2h])) > 0",
        "10m",
        Severity.WARNING,
        "Back-ups of the history fail",
        "A back-up of the API's database was due within the last two hours and could not be made.",
    ),
    # One that was never made has failed, and is told by that.
    Alert(
        "FootplateBackupOld",
        """
        time() - max by (job) (footplate_api_backup_last_success_timestamp_seconds > 0) > 36 * 3600
        """,
        "10m",
        Severity.WARNING,
        "The newest back-up of the history is old",
        "The newest back-up of the API's database was made {{ $value | humanizeDuration }} ago.",
    ),
    Alert(
        "FootplateIngestBehind",
        "sum by (job) (min_over_time(footplate_api_ingest_waiting_deliveries[5m])) > 32",
        "10m",
        Severity.WARNING,
        "Telemetry waits for the database",
        "{{ $value }} or more batches of telemetry have constantly waited to be committed, for ten"
        " minutes: the database stores less than the runs send.",
    ),
    Alert(
        "FootplateExporterMissing",
        "max by (job) (footplate_api_exports_runs) == 0",
        "5m",
        Severity.WARNING,
        "No replica of the API exports runs",
        "{{ $labels.job }} answers, but no replica exports runs and costs: no alert of runs can fire.",
    ),
    Alert(
        "FootplateCostsNotCounted",
        """
        time() - max by (job) (last_over_time(footplate_costs_counted_timestamp_seconds[5m])) > 900
        or
        max by (job) (footplate_api_exports_runs) == 1
          unless max by (job) (last_over_time(footplate_costs_counted_timestamp_seconds[5m]))
        """,
        "15m",
        Severity.WARNING,
        "Costs are not counted",
        "{{ $labels.job }} has not counted costs, energy and carbon for a quarter of an hour: their"
        " metrics are stale.",
    ),
    # The second half is for what was counted before the first scrape of a process.
    Alert(
        "FootplateRecordsUnreadable",
        """
        sum by (job, kind) (increase(footplate_api_objects_skipped_total[1h])) > 0
        or
        sum by (job, kind) (
          footplate_api_objects_skipped_total unless footplate_api_objects_skipped_total offset 1h
        ) > 0
        """,
        "1m",
        Severity.WARNING,
        "Some {{ $labels.kind }} cannot be read",
        "{{ $labels.job }} skipped some {{ $labels.kind }} that it could not read: costs lack their amounts.",
    ),
)
