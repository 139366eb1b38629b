"""When alerts of operator and API are told, to the minute, and when they are not; by promtool."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from tools.monitoring.rules import control_plane

from tests.support.prometheus import Case, all_both_ways, fires, quiet, series_of, verdicts

OPERATOR, API = "footplate-operator", "footplate-api"


def series(metric: str, replica: int = 0, **labels: str) -> str:
    """Of a replica of the operator or of the API, by the name."""
    return series_of(OPERATOR if "operator" in metric else API, metric, replica, **labels)


BUILD, LEADING = "footplate_operator_build_info", "footplate_operator_leader_election_master_status"
HEARD = "footplate_operator_watch_last_event_timestamp_seconds"
WAIT, DONE = (
    "footplate_operator_workqueue_queue_duration_seconds_bucket",
    "footplate_operator_controller_reconcile_total",
)
QUEUE, LAG = "footplate_operator_workqueue_depth", "footplate_api_loop_lag_seconds"
STARTED = "process_start_time_seconds"
OF_OPERATOR: dict[str, Case] = {
    "nothing-is-scraped": fires("FootplateOperatorAbsent", 5, {"up": "0x9"}, job=OPERATOR),
    "one-of-two-replicas-answers": quiet(
        "FootplateOperatorAbsent", 9, {series(BUILD): "1 stale", series(BUILD, 1): "1x9"}
    ),
    "another-releases-operator-is-none": fires(
        "FootplateOperatorAbsent", 5, {series_of("research-footplate-operator", BUILD): "1x9"}, job=OPERATOR
    ),
    "nobody-leads": fires(
        "FootplateNoLeader", 3, {series(LEADING): "0x9", series(LEADING, 1): "0x9"}, job=OPERATOR
    ),
    "one-leads": quiet("FootplateNoLeader", 9, {series(LEADING): "0x9", series(LEADING, 1): "1x9"}),
    "a-new-leader-within-three-minutes": quiet(
        "FootplateNoLeader", 4, {series(LEADING): "1 0 0 0 0", series(LEADING, 1): "0 0 0 1 1"}
    ),
    "no-word-of-nodes": fires(
        "FootplateWatchSilent", 8, {series(HEARD, kind="Node"): "0x9"}, "8m 0s", job=OPERATOR, kind="Node"
    ),
    "no-word-of-nodes-and-a-scrape-failed": fires(
        "FootplateWatchSilent",
        8,
        {series(HEARD, kind="Node"): "0x4 stale _ _ 0x9"},
        "8m 0s",
        job=OPERATOR,
        kind="Node",
    ),
    "a-word-each-minute": quiet("FootplateWatchSilent", 30, {series(HEARD, kind="Pod"): "0+60x30"}),
    # 89 of 100 within five seconds.
    "more-than-a-tenth-waits": fires(
        "FootplateQueueWaits",
        11,
        {
            series(WAIT, le="5"): "0+89x20",
            series(WAIT, le="10"): "0+100x20",
            series(WAIT, le="+Inf"): "0+100x20",
        },
        job=OPERATOR,
    ),
    "less-than-a-tenth-waits": quiet(
        "FootplateQueueWaits",
        20,
        {
            series(WAIT, le="5"): "0+91x20",
            series(WAIT, le="10"): "0+100x20",
            series(WAIT, le="+Inf"): "0+100x20",
        },
    ),
    "the-queue-stands": fires(
        "FootplateQueueWaits",
        11,
        {
            series(QUEUE): "7x20",
            series(DONE, result="success"): "9x20",
            series(QUEUE, 1): "0x20",
            series(DONE, 1, result="success"): "0x20",
        },
        job=OPERATOR,
    ),
    "the-queue-is-worked-on": quiet(
        "FootplateQueueWaits", 20, {series(QUEUE): "7x20", series(DONE, result="success"): "0+1x20"}
    ),
    "nothing-waits-and-nothing-is-done": quiet(
        "FootplateQueueWaits", 20, {series(QUEUE): "0x20", series(DONE, result="success"): "9x20"}
    ),
    "a-run-fails-each-minute": fires(
        "FootplateReconcileErrors",
        18,
        {series(DONE, result="error"): "0+1x20", series(DONE, result="success"): "0+100x20"},
        "5",
        job=OPERATOR,
    ),
    "an-outage-that-is-over": quiet(
        "FootplateReconcileErrors", 20, {series(DONE, result="error"): "0 0 0 500x20"}
    ),
    "two-errors-in-five-minutes": quiet(
        "FootplateReconcileErrors", 20, {series(DONE, result="error"): "0x2 1x2 2x2 3x2 4x2 5x2 6x2"}
    ),
    "started-anew-three-times": fires(
        "FootplateProgramRestarts",
        4,
        {series_of(OPERATOR, STARTED): "0 60 120 180 180", series_of(OPERATOR, STARTED, 1): "0x9"},
        "3",
        job=OPERATOR,
        pod=f"{OPERATOR}-0",
    ),
    "started-anew-twice": quiet("FootplateProgramRestarts", 9, {series_of(API, STARTED): "0 60 120 120x9"}),
    "three-times-in-more-than-an-hour": quiet(
        "FootplateProgramRestarts", 90, {series_of(API, STARTED): "0x30 1800x30 3600x30 5400x30"}
    ),
    "stands-still": fires(
        "FootplateLoopLag",
        10,
        {series(LAG): "2.1x10", series(LAG, 1): "2x10"},
        "2.1s",
        job=API,
        pod=f"{API}-0",
    ),
    "stood-still-once": quiet("FootplateLoopLag", 12, {series(LAG): "9 9 9 0.1x12"}),
}

API_BUILD, ANSWERS = "footplate_api_build_info", "footplate_api_requests_total"
MIRROR = "footplate_api_mirror_last_event_timestamp_seconds"
TAKEN, FREE = "footplate_api_database_bytes", "footplate_api_database_free_bytes"
FULL, CROWDED = "footplate_api_database_full", "footplate_api_database_over_quota"
WAITING, EXPORTS = "footplate_api_ingest_waiting_deliveries", "footplate_api_exports_runs"
COUNTED, SKIPPED = "footplate_costs_counted_timestamp_seconds", "footplate_api_objects_skipped_total"
UNMADE, MADE = "footplate_api_backup_failures_total", "footplate_api_backup_last_success_timestamp_seconds"
OF_API: dict[str, Case] = {
    "no-api-is-scraped": fires("FootplateApiAbsent", 5, {series(API_BUILD): "stale"}, job=API),
    "an-api-that-is-replaced": quiet(
        "FootplateApiAbsent", 7, {series(API_BUILD): "1 1 stale", series(API_BUILD, 1): "_ _ _ _ _ _ 1 1"}
    ),
    "six-of-a-hundred-are-errors": fires(
        "FootplateApiErrors",
        11,
        {series(ANSWERS, status="500"): "0+6x11", series(ANSWERS, status="200"): "0+94x11"},
        "6%",
        job=API,
    ),
    "five-of-a-hundred-are": quiet(
        "FootplateApiErrors",
        20,
        {series(ANSWERS, status="503"): "0+5x20", series(ANSWERS, status="429"): "0+95x20"},
    ),
    "nobody-asks": quiet("FootplateApiErrors", 20, {series(ANSWERS, status="500"): "7x20"}),
    "kubernetes-is-silent": fires("FootplateMirrorBehind", 9, {series(MIRROR): "0x9"}, "9m 0s", job=API),
    "silent-and-a-scrape-failed": fires(
        "FootplateMirrorBehind", 9, {series(MIRROR): "0x5 stale _ 0x9"}, "9m 0s", job=API
    ),
    "another-replica-hears": quiet(
        "FootplateMirrorBehind", 20, {series(MIRROR): "0x20", series(MIRROR, 1): "0+60x20"}
    ),
    "nine-of-a-hundred-are-free": fires(
        "FootplateDatabaseNearlyFull",
        15,
        {series(TAKEN): "91x15", series(FREE, limit="volume"): "9x15"},
        "9%",
        job=API,
        limit="volume",
    ),
    "its-own-room-is-nearly-full": fires(
        "FootplateDatabaseNearlyFull",
        15,
        {
            series(TAKEN): "95x15",
            series(FREE, limit="room"): "5x15",
            series(FREE, limit="volume"): "900x15",
            series(TAKEN, 1): "95x15",
            series(FREE, 1, limit="room"): "5x15",
        },
        "5%",
        job=API,
        limit="room",
    ),
    "ten-of-a-hundred-are-free": quiet(
        "FootplateDatabaseNearlyFull", 20, {series(TAKEN): "90x20", series(FREE, limit="volume"): "10x20"}
    ),
    "a-volume-is-full": fires(
        "FootplateDatabaseFull",
        1,
        {series(FULL): "1x9", series(FREE, limit="room"): "5x9"},
        job=API,
        limit="volume",
    ),
    "its-own-room-is-full": fires(
        "FootplateDatabaseFull",
        1,
        {series(FULL): "0x9", series(FREE, limit="room"): "0x9"},
        job=API,
        limit="room",
    ),
    "a-byte-is-free": quiet(
        "FootplateDatabaseFull", 9, {series(FULL): "0x9", series(FREE, limit="room"): "1x9"}
    ),
    "no-row-to-delete": fires("FootplateDatabaseCrowded", 30, {series(CROWDED): "1x30"}, job=API),
    "crowded-for-a-while": quiet("FootplateDatabaseCrowded", 30, {series(CROWDED): "1x20 0x10"}),
    "a-backup-could-not-be-made": fires("FootplateBackupFails", 12, {series(UNMADE): "0 0 1x20"}, job=API),
    "each-backup-is-made": quiet("FootplateBackupFails", 30, {series(UNMADE): "0x30"}),
    "no-backup-for-a-day-and-a-half": fires(
        "FootplateBackupOld", 2171, {series(MADE): "1x2200"}, "1d 12h 10m 59s", job=API
    ),
    "a-backup-each-night": quiet("FootplateBackupOld", 2200, {series(MADE): "1x1440 86400x800"}),
    "no-backup-yet": quiet("FootplateBackupOld", 2200, {series(MADE): "0x2200"}),
    "many-batches-wait": fires(
        "FootplateIngestBehind", 10, {series(WAITING): "64 64 64 64 64 64 64 64 33 64 64"}, "33", job=API
    ),
    "now-and-then-few-wait": quiet(
        "FootplateIngestBehind", 14, {series(WAITING): "64 64 64 64 32 64 64 64 64 32 64 64 64 64 32"}
    ),
    "nobody-exports-runs": fires(
        "FootplateExporterMissing", 5, {series(EXPORTS): "0x9", series(EXPORTS, 1): "0x9"}, job=API
    ),
    "another-replica-takes-over": quiet(
        "FootplateExporterMissing", 9, {series(EXPORTS): "1 1 0x9", series(EXPORTS, 1): "0 0 0 0 1x9"}
    ),
    "costs-stand": fires(
        "FootplateCostsNotCounted", 31, {series(EXPORTS): "1x31", series(COUNTED): "0x31"}, job=API
    ),
    "costs-stand-and-a-scrape-failed": fires(
        "FootplateCostsNotCounted",
        31,
        {series(EXPORTS): "1x20 stale _ _ 1x20", series(COUNTED): "0x20 stale _ _ 0x20"},
        job=API,
    ),
    "costs-were-never-counted": fires(
        "FootplateCostsNotCounted", 15, {series(EXPORTS): "1x15", series(EXPORTS, 1): "0x15"}, job=API
    ),
    "costs-are-counted-by-one-replica-and-then-by-another": quiet(
        "FootplateCostsNotCounted",
        60,
        {
            series(EXPORTS): "1x30 0x30",
            series(COUNTED): "0+60x30 stale",
            series(EXPORTS, 1): "0x30 1x30",
            series(COUNTED, 1): "_x31 1860+60x30",
        },
    ),
    "nobody-counts-and-nobody-exports": quiet("FootplateCostsNotCounted", 60, {series(EXPORTS): "0x60"}),
    "a-price-is-unreadable": fires(
        "FootplateRecordsUnreadable",
        11,
        {series(SKIPPED, kind="PriceEntries"): "0x9 1x9", series(SKIPPED, kind="UsageRecords"): "0x20"},
        job=API,
        kind="PriceEntries",
    ),
    "two-were-before-the-first-scrape": fires(
        "FootplateRecordsUnreadable",
        1,
        {series(SKIPPED, kind="PriceEntries"): "2x9"},
        job=API,
        kind="PriceEntries",
    ),
    "that-was-more-than-an-hour-ago": quiet(
        "FootplateRecordsUnreadable", 70, {series(SKIPPED, kind="PriceEntries"): "0 2x70"}
    ),
    "all-is-readable": quiet(
        "FootplateRecordsUnreadable", 70, {series(SKIPPED, kind="PriceEntries"): "0x70"}
    ),
}
CASES = OF_OPERATOR | OF_API


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """What promtool finds wrong, by case."""
    return verdicts(tmp_path_factory.mktemp("promtool"), CASES)


@pytest.mark.parametrize("case", CASES)
def test_an_alert_is_told_when_it_is_true(case: str, said: Mapping[str, str]) -> None:
    assert said.get(case, "") == ""


def test_each_is_seen_told_and_not_told() -> None:
    names = {known.name for known in (*control_plane.OPERATOR, *control_plane.BOTH, *control_plane.API)}
    assert all_both_ways(CASES.values()) == names
