"""Operator and API themselves: whether they are there, keep up, and have room."""

from __future__ import annotations

from typing import Final

from tools.monitoring.board import Board, Section
from tools.monitoring.expressions import Expression, increase, last, level, quantile, rate
from tools.monitoring.names import Counter, Foreign, ForeignCounter, Gauge, Histogram
from tools.monitoring.panels import Column, Limits, Panel, Query, Unit, bars, rows, single, trend

PROGRAM: Final = ("job", "instance")
OF_PROGRAM: Final = "{{job}} {{instance}}"
BUILT: Final = level(Gauge.API_BUILD).otherwise(level(Gauge.OPERATOR_BUILD))
# Prometheus knows of a program that is down only that it was one of ours.
OURS: Final = last(Gauge.API_BUILD, "1d").otherwise(last(Gauge.OPERATOR_BUILD, "1d"))
UP: Final = level(Foreign.UP).where(OURS, *PROGRAM)
LAG: Final = level(Gauge.API_LOOP_LAG).otherwise(level(Gauge.OPERATOR_LOOP_LAG))


def _without_one(name: Gauge) -> Expression:
    """How many programs, all replicas of one taken together, have not just one that is so."""
    return level(name).sum("job").other_than(1).count().otherwise(level(name).max() * 0)


def _presence() -> list[Panel]:
    """Whether the programs are there and hear what happens."""
    return [
        single(
            "Programs down",
            "Operators and APIs that Prometheus does not reach and did reach within a day. `kubectl get "
            "pods` in their namespace says why.",
            Unit.COUNT,
            Query(UP.equal(0).count().otherwise(UP.max() * 0)),
            limits=Limits.none(),
            history=False,  # at each point of which a whole day would be read
            width=3,
        ),
        single(
            "Without one leader",
            "Releases of which no replica leads, or more than one seems to: nothing follows then from a "
            "run's change. For seconds it is usual while an operator is replaced.",
            Unit.COUNT,
            Query(_without_one(Gauge.OPERATOR_LEADER)),
            limits=Limits.none(),
            width=3,
        ),
        single(
            "Without one exporter",
            "Releases of which no replica of the API exports numbers of runs, or more than one does. "
            "After the end of one another takes over within 20 seconds, if the database answers.",
            Unit.COUNT,
            Query(_without_one(Gauge.EXPORTS_RUNS)),
            limits=Limits.none(),
            width=3,
        ),
        single(
            "Longest silence",
            "The longest that a watch of the operator has said nothing. It speaks once a minute where "
            "nothing happens; after 75 seconds the operator is not ready, after 85 it makes room for "
            "another.",
            Unit.SECONDS,
            Query(level(Gauge.OPERATOR_WATCH_EVENT).age().max()),
            limits=Limits.rising(75, 85),
            width=3,
        ),
        single(
            "Event loop lag",
            "The longest time in the last minute or two in which one of the programs did nothing at all: "
            "it has too little CPU, or computes where it should wait.",
            Unit.SECONDS,
            Query(LAG.max()),
            limits=Limits.rising(0.5, 2),
            width=3,
        ),
    ]


def _room() -> list[Panel]:
    """Whether the history has room, and metrics are whole."""
    free = level(Gauge.API_DATABASE_FREE).min()
    left_out = (
        level(Gauge.RUNS_DROPPED).max()
        + level(Gauge.RUN_PODS_DROPPED).max()
        + level(Gauge.COSTS_DROPPED).max()
    )
    return [
        single(
            "Free database room",
            "Of what the history may take, on its volume or by `api.retention.databaseSize`, the share "
            "that is free. Metric rows are thinned before it is full.",
            Unit.RATIO,
            Query(free / (free + level(Gauge.API_DATABASE).max())),
            limits=Limits.falling(0.2, 0.1),
            width=3,
        ),
        single(
            "Databases full",
            "Full: the volume has no room, and telemetry waits with its senders. Crowded: all but metric "
            "rows takes most of the room, so thinning does not help. Enlarge the volume.",
            Unit.COUNT,
            Query(
                (level(Gauge.API_DATABASE_FULL) + level(Gauge.API_DATABASE_OVER_QUOTA))
                .above(0)
                .count()
                .otherwise(level(Gauge.API_DATABASE_FULL).max() * 0)
            ),
            limits=Limits.none(),
            width=3,
        ),
        single(
            "Left out",
            "Runs, their pods, and pairs of namespace and profile that have no series of their own, as "
            "there is room for a thousand runs and pairs and five thousand pods. Sums over them are too "
            "small; counts by phase are whole.",
            Unit.COUNT,
            Query(left_out),
            limits=Limits.rising(1),
            width=3,
        ),
    ]


def _programs() -> list[Panel]:
    """Each of them."""
    return [
        rows(
            "Programs",
            "Each replica with what it was built from. Two versions for longer than an upgrade takes are "
            "one that is stuck.",
            Unit.PLAIN,
            {"job": "Program", "instance": "Address"},
            Column("Version", BUILT.max(*PROGRAM, "version"), label="version"),
            Column("Revision", BUILT.max(*PROGRAM, "revision"), label="revision"),
            Column("Reached", UP.max(*PROGRAM), Unit.COUNT, Limits.one()),
            Column("Memory", _process(level(Foreign.RESIDENT_MEMORY)).max(*PROGRAM), Unit.BYTES),
            Column("CPU cores", _process(rate(ForeignCounter.CPU_SECONDS)).max(*PROGRAM), Unit.COUNT),
            Column("Loop lag", LAG.max(*PROGRAM), Unit.SECONDS, Limits.rising(0.5, 2)),
            sort="Program",
            height=6,
        ),
    ]


def _health() -> Section:
    return Section("Health", [*_presence(), *_room(), *_programs()])


def _process(numbers: Expression) -> Expression:
    """Of our programs alone: every program has these."""
    return numbers.where(BUILT, *PROGRAM)


def _operator() -> Section:
    wait, duration = Histogram.OPERATOR_QUEUE_WAIT, Histogram.OPERATOR_RECONCILE_DURATION
    return Section(
        "Operator",
        [
            trend(
                "Runs that wait to be reconciled",
                "A queue that grows for minutes means that the operator does not keep up, or the API "
                "server answers slowly.",
                Unit.COUNT,
                Query(level(Gauge.OPERATOR_WORKQUEUE).max("job"), "{{job}}"),
                width=8,
            ),
            trend(
                "Wait for a reconciliation",
                "How long a run waits from a change until the operator looks at it: half of them, and 99 "
                "of 100.",
                Unit.SECONDS,
                Query(quantile(0.5, wait), "half"),
                Query(quantile(0.99, wait), "99 %"),
                width=8,
            ),
            trend(
                "Duration of a reconciliation",
                "From the look at a run until all that follows is written: half of them, and 99 of 100.",
                Unit.SECONDS,
                Query(quantile(0.5, duration), "half"),
                Query(quantile(0.99, duration), "99 %"),
                width=8,
            ),
            trend(
                "Reconciliations a second, by result",
                "An error is tried again with growing pauses; its log line names the run.",
                Unit.A_SECOND,
                Query(rate(Counter.OPERATOR_RECONCILES).sum("result"), "{{result}}"),
                stacked=True,
                width=8,
            ),
            trend(
                "Requests to the API server, by code",
                "0: it did not answer. 409 and 404 happen as objects change and go. 403 is a right that "
                "is missing, 429 an API server that has too much to do.",
                Unit.REQUESTS,
                Query(rate(Counter.OPERATOR_API_REQUESTS).sum("code"), "{{code}}"),
                stacked=True,
                width=8,
            ),
            trend(
                "Silence of each watch",
                "How long ago the API server said something last on the watch of a kind.",
                Unit.SECONDS,
                Query(level(Gauge.OPERATOR_WATCH_EVENT).age().max("kind"), "{{kind}}"),
                limits=Limits.rising(75, 85),
                width=8,
            ),
        ],
    )


def _answers() -> list[Panel]:
    """What callers have of it."""
    took = Histogram.API_REQUEST_DURATION
    return [
        trend(
            "Requests, by status",
            "4xx are refusals of what callers ask, 429 of callers that ask too often, 5xx failures of the "
            "API: 503 while its database does not answer or has no room.",
            Unit.REQUESTS,
            Query(rate(Counter.API_REQUESTS).sum("status"), "{{status}}"),
            stacked=True,
            width=8,
        ),
        trend(
            "Duration of a request",
            "Half of all requests, and 99 of 100, are answered within that time.",
            Unit.SECONDS,
            Query(quantile(0.5, took), "half"),
            Query(quantile(0.99, took), "99 %"),
            width=8,
        ),
        bars(
            "Slowest routes",
            "The ten routes that answer slowest, by what 99 of 100 of their requests take.",
            Unit.SECONDS,
            Query(quantile(0.99, took, "method", "route").above(0).top(10), "{{method}} {{route}}"),
        ),
    ]


def _history() -> list[Panel]:
    """What it keeps."""
    return [
        trend(
            "Telemetry",
            "Rows of running training and the numbers in them that are stored in a second.",
            Unit.A_SECOND,
            Query(rate(Counter.API_ROWS).sum(), "rows"),
            Query(rate(Counter.API_POINTS).sum(), "numbers"),
            width=8,
        ),
        trend(
            "At work",
            "Requests that are being answered, batches of telemetry that wait to be committed, and "
            "connections to the database. All of the connections in use for minutes: the database is "
            "slow.",
            Unit.COUNT,
            Query(level(Gauge.API_IN_FLIGHT).sum(), "requests"),
            Query(level(Gauge.API_INGEST_WAITING).sum(), "batches that wait"),
            Query(level(Gauge.API_CONNECTIONS).sum("state"), "connections {{state}}"),
            width=8,
        ),
        trend(
            "Room of the database",
            "What it takes, and what is free: on its volume, or of the room that the values allow.",
            Unit.BYTES,
            Query(level(Gauge.API_DATABASE).max(), "taken"),
            Query(level(Gauge.API_DATABASE_FREE).min("limit"), "free: {{limit}}"),
            width=8,
        ),
    ]


def _records() -> list[Panel]:
    """What it is told."""
    return [
        trend(
            "Mirror of runs",
            "Changes of runs that the API was told in a second, and failures of that watch, after which "
            "it begins again. Without it the history of runs and its metrics stand still.",
            Unit.A_SECOND,
            Query(rate(Counter.API_MIRROR_EVENTS).sum(), "changes"),
            Query(rate(Counter.API_MIRROR_FAILURES).sum(), "failures"),
            width=8,
        ),
        trend(
            "Records of usage that are stored",
            "UsageRecords that were over and went into the history, within each point of the graph. The "
            "bill follows from them.",
            Unit.COUNT,
            Query(increase(Counter.API_USAGE_TAKEN).sum(), "stored"),
            counted=True,
            width=8,
        ),
        trend(
            "What could not be noted",
            "Within each point of the graph: records of usage, prices, intensities and profiles that "
            "could not be read, by kind, and refused writes that the audit does not have. The API's log "
            "names them.",
            Unit.COUNT,
            Query(increase(Counter.API_OBJECTS_SKIPPED).sum("kind").above(0), "{{kind}}"),
            Query(increase(Counter.API_REFUSALS_DROPPED).sum().above(0), "refusals"),
            counted=True,
            width=8,
        ),
    ]


def _api() -> Section:
    return Section("API", [*_answers(), *_history(), *_records()])


def _scrape() -> Section:
    duration, samples = Foreign.SCRAPE_DURATION, Foreign.SCRAPE_SAMPLES
    return Section(
        "Scrape",
        [
            trend(
                "Duration of a scrape",
                "How long Prometheus takes to read a program's metrics. The API takes a tenth of a second "
                "for a thousand runs.",
                Unit.SECONDS,
                Query(_process(level(duration)).max(*PROGRAM), OF_PROGRAM),
                limits=Limits.rising(1, 5),
            ),
            trend(
                "Samples of a scrape",
                "How many series each program has: they grow with the runs that live, at most a thousand.",
                Unit.COUNT,
                Query(_process(level(samples)).max(*PROGRAM), OF_PROGRAM),
            ),
        ],
    )


BOARD: Final = Board(
    uid="footplate-control-plane",
    title="Control plane",
    description="Operator and API themselves: whether they are there, keep up, and have room.",
    sections=[_health(), _operator(), _api(), _scrape()],
    since="now-6h",
)
