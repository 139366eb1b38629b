"""Names of what Prometheus knows of Footplate, by what may be asked of them.

Those of our programs are in docs/observability.md, and a test compares both. A counter is another type than
a gauge, so that the type checker says where one of them is asked for as the other.
"""

from __future__ import annotations

from enum import StrEnum


class Gauge(StrEnum):
    """What goes up and down."""

    RUN_STATUS = "footplate_run_status"
    RUN_PROGRESS = "footplate_run_progress_ratio"
    RUN_GOODPUT = "footplate_run_goodput_ratio"
    RUN_ESTIMATED_END = "footplate_run_estimated_end_timestamp_seconds"
    RUN_LAST_STEP = "footplate_run_last_step_timestamp_seconds"
    RUN_LAST_SAMPLE = "footplate_run_last_sample_timestamp_seconds"
    RUN_LAST_CHECKPOINT = "footplate_run_last_checkpoint_timestamp_seconds"
    RUN_LAST_FAILURE = "footplate_run_last_failure_timestamp_seconds"
    RUN_STEP = "footplate_run_step"
    RUN_LOSS = "footplate_run_loss"
    RUN_TOKENS = "footplate_run_tokens"
    RUN_TOKENS_PER_SECOND = "footplate_run_tokens_per_second"
    RUN_STEP_SECONDS = "footplate_run_step_seconds"
    RUN_STEP_BREAKDOWN = "footplate_run_step_breakdown_seconds"
    RUN_GRADIENT_NORM = "footplate_run_gradient_norm"
    RUN_LEARNING_RATE = "footplate_run_learning_rate"
    RUN_MEMORY = "footplate_run_memory_bytes"
    RUN_MFU = "footplate_run_mfu_ratio"
    RUN_CHECKPOINTS_SKIPPED = "footplate_run_checkpoints_skipped"
    RUN_MEMBERSHIP = "footplate_run_membership_info"
    RUN_PODS_DROPPED = "footplate_run_pods_dropped"
    MONTH_COST = "footplate_month_to_date_cost_dollars"
    MONTH_ENERGY = "footplate_month_to_date_energy_joules"
    MONTH_CARBON = "footplate_month_to_date_carbon_grams"
    MONTH_IDLE = "footplate_month_to_date_idle_dollars"
    COSTS_DROPPED = "footplate_costs_dropped"
    COSTS_COUNTED = "footplate_costs_counted_timestamp_seconds"
    EXPORTS_RUNS = "footplate_api_exports_runs"
    RUNS = "footplate_runs"
    RUNS_DROPPED = "footplate_runs_dropped"
    API_BUILD = "footplate_api_build_info"
    API_IN_FLIGHT = "footplate_api_requests_in_flight"
    API_LOOP_LAG = "footplate_api_loop_lag_seconds"
    API_INGEST_WAITING = "footplate_api_ingest_waiting_deliveries"
    API_CONNECTIONS = "footplate_api_database_connections"
    API_HTTP_CONNECTIONS = "footplate_api_connections"
    API_BACKUP = "footplate_api_backup_last_success_timestamp_seconds"
    API_BACKUP_SIZE = "footplate_api_backup_bytes"
    API_BACKUP_FREE = "footplate_api_backup_free_bytes"
    API_DATABASE = "footplate_api_database_bytes"
    API_DATABASE_FREE = "footplate_api_database_free_bytes"
    API_DATABASE_FULL = "footplate_api_database_full"
    API_DATABASE_OVER_QUOTA = "footplate_api_database_over_quota"
    API_MIRROR_LAST_EVENT = "footplate_api_mirror_last_event_timestamp_seconds"
    OPERATOR_BUILD = "footplate_operator_build_info"
    OPERATOR_LEADER = "footplate_operator_leader_election_master_status"
    OPERATOR_RUNS = "footplate_operator_runs"
    OPERATOR_WORKQUEUE = "footplate_operator_workqueue_depth"
    OPERATOR_WATCH_EVENT = "footplate_operator_watch_last_event_timestamp_seconds"
    OPERATOR_LOOP_LAG = "footplate_operator_loop_lag_seconds"


class Counter(StrEnum):
    """What only grows until it begins again: of interest is how fast."""

    API_CLOSED_CONNECTIONS = "footplate_api_closed_connections_total"
    RUN_CHECKPOINT_SECONDS = "footplate_run_checkpoint_seconds_total"
    RUN_RESTARTS = "footplate_run_restarts_total"
    RUN_TELEMETRY_DROPPED = "footplate_run_telemetry_dropped_total"
    RUN_COST = "footplate_run_cost_dollars_total"
    RUN_ENERGY = "footplate_run_energy_joules_total"
    RUN_CARBON = "footplate_run_carbon_grams_total"
    COST = "footplate_cost_dollars_total"
    ENERGY = "footplate_energy_joules_total"
    CARBON = "footplate_carbon_grams_total"
    IDLE = "footplate_idle_dollars_total"
    API_REQUESTS = "footplate_api_requests_total"
    API_ROWS = "footplate_api_ingested_rows_total"
    API_POINTS = "footplate_api_ingested_points_total"
    API_REFUSALS_DROPPED = "footplate_api_audit_refusals_dropped_total"
    API_BACKUP_FAILURES = "footplate_api_backup_failures_total"
    API_USAGE_TAKEN = "footplate_api_usage_records_taken_total"
    API_OBJECTS_SKIPPED = "footplate_api_objects_skipped_total"
    API_MIRROR_EVENTS = "footplate_api_mirror_events_total"
    API_MIRROR_FAILURES = "footplate_api_mirror_failures_total"
    OPERATOR_RESTARTS = "footplate_operator_restarts_total"
    OPERATOR_RUN_SECONDS = "footplate_operator_run_seconds_total"
    OPERATOR_RECONCILES = "footplate_operator_controller_reconcile_total"
    OPERATOR_API_REQUESTS = "footplate_operator_api_requests_total"


class Histogram(StrEnum):
    """How often something took how long, without the endings of its series."""

    API_REQUEST_DURATION = "footplate_api_request_duration_seconds"
    OPERATOR_RECOVERY = "footplate_operator_recovery_seconds"
    OPERATOR_RECOVERY_BREAKDOWN = "footplate_operator_recovery_breakdown_seconds"
    OPERATOR_RECONCILE_DURATION = "footplate_operator_reconcile_duration_seconds"
    OPERATOR_QUEUE_WAIT = "footplate_operator_workqueue_queue_duration_seconds"


class Recorded(StrEnum):
    """What the chart's rules record: levels of counters, which a panel cannot ask for themselves."""

    RUN_COST = "run:footplate_cost_dollars:last"
    RUN_ENERGY = "run:footplate_energy_joules:last"
    RUN_CARBON = "run:footplate_carbon_grams:last"
    RUN_RESTARTS = "run:footplate_restarts:last"
    COST = "namespace_profile:footplate_cost_dollars:last"
    ENERGY = "namespace_profile:footplate_energy_joules:last"
    CARBON = "namespace_profile:footplate_carbon_grams:last"
    IDLE = "profile:footplate_idle_dollars:last"
    SHARED_IDLE_RATE = "namespace_profile:footplate_idle_dollars:rate5m"
    GOODPUT = "footplate_operator:goodput:ratio_rate1h"


class Foreign(StrEnum):
    """Gauges of Prometheus itself, of any Python program, and of NVIDIA's DCGM exporter."""

    UP = "up"
    SCRAPE_DURATION = "scrape_duration_seconds"
    SCRAPE_SAMPLES = "scrape_samples_scraped"
    RESIDENT_MEMORY = "process_resident_memory_bytes"
    GPU_UTILIZATION = "DCGM_FI_DEV_GPU_UTIL"
    GPU_MEMORY_USED = "DCGM_FI_DEV_FB_USED"
    GPU_MEMORY_FREE = "DCGM_FI_DEV_FB_FREE"
    GPU_POWER = "DCGM_FI_DEV_POWER_USAGE"
    GPU_TEMPERATURE = "DCGM_FI_DEV_GPU_TEMP"


class ForeignCounter(StrEnum):
    """Counters of any Python program."""

    CPU_SECONDS = "process_cpu_seconds_total"
