"""Who trains, who waits, who stands still, and what it costs: for the beginning of a day."""

from __future__ import annotations

from typing import Final

from tools.monitoring.board import Board, Section, namespaces
from tools.monitoring.dashboards.runs import BEGINS, COLORS, KEYS, RUN, THIS_RUN, TRAINS, or_zero
from tools.monitoring.expressions import Expression, Like, in_a_day, increase, last, level, quantile, rate
from tools.monitoring.names import Counter, Gauge, Histogram, Recorded
from tools.monitoring.panels import (
    HOUR,
    MILLISECONDS,
    Column,
    Limits,
    Query,
    Unit,
    rows,
    single,
    trend,
)

CHOSEN: Final = Like("$namespace")
STATUS: Final = level(Gauge.RUN_STATUS, namespace=CHOSEN)
STANDS_AFTER: Final = 600  # seconds without a step
STEP_AGE: Final = level(Gauge.RUN_LAST_STEP, namespace=CHOSEN).age().max(*RUN)
# Colors of what time is booked as; what trained again is as bad as what stood still.
ACCOUNTS: Final = {
    "productive": "green",
    "checkpointing": "dark-green",
    "starting": "light-blue",
    "suspended": "blue",
    "queued": "purple",
    "restarting": "orange",
    "recomputed": "red",
}
TRAINING: Final = level(Gauge.RUN_STATUS, namespace=CHOSEN, phase=TRAINS)


def _now() -> Section:
    failed = last(Gauge.RUN_STATUS, "1d", namespace=CHOSEN, phase="Failed").max(*RUN).count()
    return Section(
        "Now",
        [
            single(
                "Training",
                "Runs whose ranks make steps, or have waited for a checkpoint for seconds.",
                Unit.COUNT,
                Query(or_zero(TRAINING.count())),
            ),
            single(
                "Beginning",
                "Runs that have their place and do not train yet, or not again: pods start, ranks load, "
                "or a failure is being recovered from. Minutes are usual; the table below names them.",
                Unit.COUNT,
                Query(or_zero(level(Gauge.RUN_STATUS, namespace=CHOSEN, phase=BEGINS).count())),
            ),
            single(
                "Waiting",
                "Runs in the phase Queued: there is no room for their pods yet, or they cannot be "
                "admitted. `kubectl describe trun` says which.",
                Unit.COUNT,
                Query(or_zero(level(Gauge.RUN_STATUS, namespace=CHOSEN, phase="Queued").count())),
            ),
            single(
                "Standing still",
                "Runs that should train and have finished no step for ten minutes. A long validation, a "
                "rollout or a slow checkpoint does that, too; a hang is ended by its own bound. The table "
                "below says which runs.",
                Unit.COUNT,
                Query(or_zero(STEP_AGE.above(STANDS_AFTER).where(TRAINING, *RUN).count())),
                limits=Limits.none(),
            ),
            single(
                "Failed in 24 hours",
                "Runs that ended in the phase Failed. Their condition Failed says why.",
                Unit.COUNT,
                Query(or_zero(failed)),
                limits=Limits.none(),
                history=False,
            ),
            single(
                "Goodput of the last hour",
                "Of all time that runs had their place, the share in which they trained on what they "
                "kept: not starting, not recovering, not repeating steps. Of all namespaces.",
                Unit.RATIO,
                Query(level(Recorded.GOODPUT).max()),
                limits=Limits.falling(0.9, 0.8),
            ),
        ],
    )


def _runs() -> Section:
    columns = [
        Column("Phase", STATUS.max(*RUN, "phase"), label="phase", colors=COLORS),
        Column("Progress", _of_run(Gauge.RUN_PROGRESS), Unit.RATIO),
        Column("Ends", _of_run(Gauge.RUN_ESTIMATED_END) * MILLISECONDS, Unit.FROM_NOW),
        Column("Last step", STEP_AGE.where(TRAINING, *RUN), Unit.SECONDS, Limits.rising(120, STANDS_AFTER)),
        Column(
            "Last checkpoint",
            level(Gauge.RUN_LAST_CHECKPOINT, namespace=CHOSEN).age().max(*RUN).where(TRAINING, *RUN),
            Unit.SECONDS,
            Limits.rising(2 * HOUR, 6 * HOUR),
        ),
        Column("Goodput", _of_run(Gauge.RUN_GOODPUT), Unit.RATIO, Limits.falling(0.9, 0.8)),
        Column("Restarts", _of_run(Recorded.RUN_RESTARTS), Unit.COUNT, Limits.rising(5, 20)),
        Column("Cost", _of_run(Recorded.RUN_COST), Unit.DOLLARS),
    ]
    table = rows(
        "Runs, those that stand still first",
        "Each run that trains, waits, or ended within a quarter of an hour. Last step and last checkpoint "
        "are how long ago they were while a run trains: what a failure now would lose is the time since "
        "the last checkpoint. A click on a run shows it. Of more than a thousand runs the youngest are "
        "listed.",
        Unit.PLAIN,
        KEYS,
        *columns,
        sort="Last step",
        links={"Run": THIS_RUN},
    )
    return Section("Runs", [table])


def _day() -> Section:
    return Section(
        "Over time",
        [
            trend(
                "Runs by phase",
                "How many runs were in which phase. A purple band that grows is a fleet with too little "
                "room.",
                Unit.COUNT,
                Query(STATUS.count("phase"), "{{phase}}"),
                counted=True,
                colors=COLORS,
            ),
            trend(
                "What the time of runs goes into",
                "Runs at once, by what their time is booked as (`status.wallSeconds`): productive is what "
                "counts. Of all namespaces.",
                Unit.COUNT,
                Query(rate(Counter.OPERATOR_RUN_SECONDS).sum("account"), "{{account}}"),
                stacked=True,
                colors=ACCOUNTS,
            ),
            trend(
                "Interruptions by cause",
                "How often runs were interrupted, within each point of the graph. Many of one cause are "
                "one fault: NodeLost of a rack, Communication of a switch, Storage of a file system. Of "
                "all namespaces.",
                Unit.COUNT,
                Query(increase(Counter.OPERATOR_RESTARTS).sum("cause").above(0), "{{cause}}"),
                counted=True,
            ),
            trend(
                "Time until they train again",
                "Nine of ten interruptions were over after so long, whole and by part: until the operator "
                "held it to be one, until all workers were back, until they formed a generation, and "
                "until its first step. Of all namespaces.",
                Unit.SECONDS,
                Query(quantile(0.9, Histogram.OPERATOR_RECOVERY), "whole"),
                Query(quantile(0.9, Histogram.OPERATOR_RECOVERY_BREAKDOWN, "part"), "{{part}}"),
            ),
        ],
    )


def _compute() -> Section:
    used = rate(Counter.COST, namespace=CHOSEN) * HOUR
    return Section(
        "Compute",
        [
            single(
                "Spent in 24 hours",
                "What the runs of the chosen namespaces cost; on the first of a month since it began, by "
                "the clock of UTC. The dashboard Cost and carbon tells more.",
                Unit.DOLLARS,
                Query(in_a_day(Recorded.COST, namespace=CHOSEN)),
                history=False,
                height=8,
            ),
            single(
                "Idle in 24 hours",
                "What nodes that no run used cost; on the first of a month since it began. Of all "
                "namespaces.",
                Unit.DOLLARS,
                Query(in_a_day(Recorded.IDLE)),
                history=False,
                height=8,
            ),
            trend(
                "Spent in an hour, by profile",
                "What is used of each ComputeProfile, as dollars an hour.",
                Unit.DOLLARS,
                Query(used.sum("profile"), "{{profile}}"),
                stacked=True,
                width=8,
            ),
            trend(
                "Idle in an hour, by profile",
                "What stands idle of each ComputeProfile, as dollars an hour. Beside runs that wait for "
                "another profile it says what to buy less of. Of all namespaces.",
                Unit.DOLLARS,
                Query((rate(Counter.IDLE) * HOUR).sum("profile"), "{{profile}}"),
                stacked=True,
                width=8,
            ),
        ],
    )


def _of_run(name: Gauge | Recorded) -> Expression:
    return level(name, namespace=CHOSEN).max(*RUN)


BOARD: Final = Board(
    uid="footplate-fleet",
    title="Fleet",
    description="All runs of an installation: who trains, who waits, who stands still, and what it costs.",
    variables=[namespaces(several=True)],
    sections=[_now(), _runs(), _day(), _compute()],
)
