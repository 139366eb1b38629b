"""Prometheus metrics of this process, and the health of the mirror.

Labels are bounded: routes are templates, never paths.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from importlib.metadata import version
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from footplate_contracts.names import Env

SILENT_SECONDS: Final = 90.0  # a watch ends after 75 s at most, whatever becomes of the API server
RUNS: Final = "TrainingRuns"  # the kind without which nothing is mirrored
USAGE: Final = "UsageRecords"
PRICES: Final = "PriceEntries"
CARBON: Final = "CarbonIntensities"
PROFILES: Final = "ComputeProfiles"
OF_COSTS: Final = frozenset({USAGE, PRICES, CARBON, PROFILES})  # what costs follow from, beside runs
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0)


class ApiMetrics:
    """Prometheus instruments of one application, which has a registry of its own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # halves the number of series
        self.registry = CollectorRegistry()
        GCCollector(self.registry)
        PlatformCollector(self.registry)
        ProcessCollector(registry=self.registry)
        self._gauge = partial(Gauge, registry=self.registry)
        self._counter = partial(Counter, registry=self.registry)
        build = self._gauge(
            "footplate_api_build_info",
            "Always 1; labels are version and revision.",
            ("version", "revision"),
        )
        build.labels(version("footplate-api"), os.environ.get(Env.REVISION, "")).set(1)
        self._of_requests()
        self._of_telemetry()
        self._of_the_database()
        self._of_the_mirror()

    def _of_requests(self) -> None:
        self.requests = self._counter(
            "footplate_api_requests", "Requests answered, by route template.", ("method", "route", "status")
        )
        self.request_seconds = Histogram(
            "footplate_api_request_duration_seconds",
            "Time from the request to the end of the response.",
            ("method", "route"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.in_flight = self._gauge(
            "footplate_api_requests_in_flight",
            "Requests in progress, streams and slow bodies included.",
        )
        self.http_connections = self._gauge(
            "footplate_api_connections",
            "Connections without a request in progress: new, with incomplete headers, or idle.",
            ("state",),
        )
        self.closed_connections = self._counter(
            "footplate_api_closed_connections",
            "Connections closed because no request arrived in time (slow) or a limit was exceeded (crowded).",
            ("reason",),
        )
        self.loop_lag = self._gauge(
            "footplate_api_loop_lag_seconds",
            "Longest lag of the event loop in the last minute or two.",
        )
        self.audit_refusals_left_out = self._counter(
            "footplate_api_audit_refusals_dropped",
            "Refused writes left out of the audit log, as their callers had too many.",
        )

    def _of_telemetry(self) -> None:
        self.ingested_rows = self._counter("footplate_api_ingested_rows", "Metric rows received and stored.")
        self.ingested_points = self._counter(
            "footplate_api_ingested_points", "Numbers in the metric rows that were received and stored."
        )
        self.ingest_waiting = self._gauge(
            "footplate_api_ingest_waiting_deliveries",
            "Telemetry batches that were read and wait for their commit.",
        )

    def _of_the_database(self) -> None:
        self.connections = self._gauge(
            "footplate_api_database_connections",
            "Database connections of readers and writers, in use or idle.",
            ("state",),
        )
        self.database_bytes = self._gauge("footplate_api_database_bytes", "Size of the database.")
        self.database_free_bytes = self._gauge(
            "footplate_api_database_free_bytes",
            "Free space of the database; absent when unknown, as for a server without a limit.",
            ("limit",),
        )
        self.database_full = self._gauge(
            "footplate_api_database_full",
            "1 while the database has no space for writes; reads still work.",
        )
        self.database_crowded = self._gauge(
            "footplate_api_database_over_quota", "1 while data other than metric rows exceeds the quota."
        )

    def _of_the_mirror(self) -> None:
        self.mirror_events = self._counter("footplate_api_mirror_events", "Changes of TrainingRuns.")
        self.mirror_failures = self._counter(
            "footplate_api_mirror_failures", "Lists and watches that failed or could not be stored."
        )
        self.mirror_last_event = self._gauge(
            "footplate_api_mirror_last_event_timestamp_seconds",
            "Time of the last response from Kubernetes, bookmarks and ends of watches included.",
        )
        self.objects_skipped = self._counter(
            "footplate_api_objects_skipped",
            "Unreadable objects that costs depend on, counted once per change of each object.",
            ("kind",),
        )
        for kind in sorted(OF_COSTS):
            self.objects_skipped.labels(kind)
        self.usage_records_taken = self._counter(
            "footplate_api_usage_records_taken",
            "Completed UsageRecords that were deleted from Kubernetes once they were stored.",
        )


class BackupMetrics:
    """Prometheus instruments of an application with scheduled back-ups; no other one exports them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        gauge = partial(Gauge, registry=registry)
        self.last_success = gauge(
            "footplate_api_backup_last_success_timestamp_seconds",
            "Time of the newest verified back-up that still exists; 0 without one.",
        )
        self.failures = Counter(
            "footplate_api_backup_failures", "Scheduled back-ups that failed.", registry=registry
        )
        self.bytes = gauge("footplate_api_backup_bytes", "Size of the newest back-up.")
        self.free_bytes = gauge("footplate_api_backup_free_bytes", "Free space on the volume of back-ups.")


NO_LIST: Final = "no list of runs has been read yet"


def trouble_key(kind: str, place: str) -> str:
    """Return the key of `troubles` for a kind, with the namespace where each has its own reflector.

    >>> trouble_key("TrainingRuns", ""), trouble_key("TrainingRuns", "team-a")
    ('TrainingRuns', 'TrainingRuns in team-a')
    """
    return f"{kind} in {place}" if place else kind


@dataclass
class MirrorHealth:
    """Health of the mirror, which writes it; /readyz reads it.

    The mirror follows runs in each of `places` separately: namespaces, or all of them under the empty name.
    The health of runs is that of the worst place.
    """

    places: tuple[str, ...] = ("",)
    troubles: dict[str, str] = field(
        default_factory=lambda: {RUNS: NO_LIST}
    )  # with Kubernetes, by kind and place: of its last list or watch
    heard_at: datetime | None = None  # of runs; Kubernetes says something every minute
    heard: dict[str, datetime] = field(default_factory=dict)  # of what costs follow from, by kind
    _heard_in: dict[str, datetime] = field(default_factory=dict, init=False)  # of runs, by place

    @classmethod
    def of(cls, places: tuple[str, ...]) -> MirrorHealth:
        """Return the health at the start of the process, for `places`."""
        return cls(places, {trouble_key(RUNS, place): NO_LIST for place in places})

    def set_run_trouble(self, sentence: str) -> None:
        """Store `sentence` as the trouble with runs in all places."""
        self.troubles.update((trouble_key(RUNS, place), sentence) for place in self.places)

    def record_run_contact(self, place: str, now: datetime) -> None:
        """Store `now` as the time of Kubernetes' last response on runs in `place`."""
        self._heard_in[place] = now
        if self._heard_in.keys() >= set(self.places):
            self.heard_at = min(self._heard_in.values())

    refusal: str | None = None  # why this process must not go on
    refused: asyncio.Event = field(default_factory=asyncio.Event)

    def request_exit(self, sentence: str) -> None:
        """Make the process end, for the reason in `sentence`."""
        self.refusal = sentence
        self.set_run_trouble(sentence)
        self.refused.set()

    def stale_since(self, now: datetime, kinds: Collection[str] = (RUNS,)) -> str | None:
        """Return the time of the last news of these kinds, `unknown` before any; None if nothing is missing.

        >>> MirrorHealth().stale_since(datetime(2026, 1, 31))
        'unknown'
        """
        heard = {RUNS: self.heard_at, **self.heard}
        since = [self._missed(kind, heard.get(kind), now) for kind in kinds]
        if "unknown" in since:
            return "unknown"
        return min((moment for moment in since if moment is not None), default=None)

    def _missed(self, kind: str, heard_at: datetime | None, now: datetime) -> str | None:
        if heard_at is None:
            return "unknown"
        silent = (now - heard_at).total_seconds() > SILENT_SECONDS
        troubled = any(trouble_key(kind, place) in self.troubles for place in ("", *self.places))
        return heard_at.isoformat(timespec="seconds") if troubled or silent else None

    @property
    def failure(self) -> str | None:
        """Sentence on one of the troubles; None without any."""
        return next(iter(self.troubles.values()), None)
