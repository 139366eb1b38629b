"""What is paid, for what, and what stands idle; energy and carbon: by namespace, profile and run."""

from __future__ import annotations

from typing import Final

from tools.monitoring.board import Board, Section, choice
from tools.monitoring.dashboards.runs import KEYS, RUN, THIS_RUN
from tools.monitoring.expressions import (
    Expression,
    Like,
    by_the_end_of_the_month,
    in_a_day,
    label_values,
    level,
    rate,
)
from tools.monitoring.names import Counter, Gauge, Recorded
from tools.monitoring.panels import (
    HOUR,
    KILOWATT_HOUR,
    Column,
    Limits,
    Panel,
    Query,
    Unit,
    rows,
    single,
    trend,
)

NAMESPACES: Final = Like("$namespace")
PROFILES: Final = Like("$profile")
CHOSEN: Final = {"namespace": NAMESPACES, "profile": PROFILES}
MILLION: Final = 1_000_000


def _month(name: Recorded, *by: str) -> Expression:
    """What counts from the beginning of the month."""
    return level(name, **CHOSEN).sum(*by)


def _hourly(*by: str) -> Expression:
    return (rate(Counter.COST, **CHOSEN) * HOUR).sum(*by)


def _idle(*by: str) -> Expression:
    """From the beginning of the month; idle time belongs to no namespace."""
    return level(Recorded.IDLE, profile=PROFILES).sum(*by)


def _idle_hourly(*by: str) -> Expression:
    return (rate(Counter.IDLE, profile=PROFILES) * HOUR).sum(*by)


def _dollars() -> list[Panel]:
    """What is paid."""
    return [
        single(
            "Spent",
            "What runs of the chosen namespaces and profiles have cost since the month began, by the "
            "price book.",
            Unit.DOLLARS,
            Query(_month(Recorded.COST)),
            width=3,
        ),
        single(
            "Spent in 24 hours",
            "The same of the last 24 hours; on the first of a month since it began.",
            Unit.DOLLARS,
            Query(in_a_day(Recorded.COST, **CHOSEN)),
            history=False,
            width=3,
        ),
        single(
            "When the month ends",
            "What will have been spent if it goes on as in the last 24 hours.",
            Unit.DOLLARS,
            Query(by_the_end_of_the_month(Recorded.COST, **CHOSEN)),
            history=False,
            width=3,
        ),
        single(
            "Idle",
            "What nodes of the chosen profiles cost while no run used them. It belongs to no namespace.",
            Unit.DOLLARS,
            Query(_idle()),
            width=3,
        ),
        single(
            "Idle share",
            "Of all that nodes of the chosen profiles cost, the share that no run used. Above a fifth: "
            "fewer nodes, or runs that wait for another profile.",
            Unit.RATIO,
            Query(_idle() / (_idle() + level(Recorded.COST, profile=PROFILES).sum())),
            limits=Limits.rising(0.2, 0.5),
            width=3,
        ),
    ]


def _emissions() -> list[Panel]:
    """What is consumed and emitted, and whether it is counted."""
    return [
        single(
            "Energy",
            "What devices have consumed since the month began, measured where they tell it and otherwise "
            "rated.",
            Unit.KILOWATT_HOURS,
            Query(_month(Recorded.ENERGY) / KILOWATT_HOUR),
            width=3,
        ),
        single(
            "Carbon",
            "What generating that energy has emitted, as CO2 equivalent, by the intensities of its zones.",
            Unit.GRAMS,
            Query(_month(Recorded.CARBON)),
            width=3,
        ),
        single(
            "Counted",
            "Up to when all of this is counted. The API counts each minute, or less often where it takes "
            "long; until then numbers are too small.",
            Unit.SECONDS,
            Query(level(Gauge.COSTS_COUNTED).max().age()),
            limits=Limits.rising(300, 1800),
            width=3,
        ),
    ]


def _this_month() -> Section:
    return Section("This month, by the clock of UTC", [*_dollars(), *_emissions()])


def _by_namespace() -> Section:
    by = "namespace"
    shared = level(Recorded.SHARED_IDLE_RATE, **CHOSEN).sum(by) * HOUR
    return Section(
        "By namespace",
        [
            rows(
                "Namespaces, the dearest first",
                "Since the month began, and what an hour costs at the speed of now. Idle is the "
                "namespace's share of what stands idle of the profiles that it uses, as its own cost has.",
                Unit.DOLLARS,
                {by: "Namespace"},
                Column("This month", _month(Recorded.COST, by), Unit.DOLLARS),
                Column("24 hours", in_a_day(Recorded.COST, by, **CHOSEN), Unit.DOLLARS),
                Column("An hour", _hourly(by), Unit.DOLLARS),
                Column("Idle an hour", shared, Unit.DOLLARS),
                Column("Energy", _month(Recorded.ENERGY, by) / KILOWATT_HOUR, Unit.KILOWATT_HOURS),
                Column("Carbon", _month(Recorded.CARBON, by), Unit.GRAMS),
                sort="This month",
                width=14,
            ),
            trend(
                "Spent in an hour, by namespace",
                "What runs of each namespace cost in an hour.",
                Unit.DOLLARS,
                Query(_hourly(by), "{{namespace}}"),
                stacked=True,
                width=10,
                height=10,
            ),
        ],
    )


def _by_profile() -> Section:
    by = "profile"
    whole = _month(Recorded.COST, by)
    return Section(
        "By profile",
        [
            rows(
                "Profiles, the dearest first",
                "What runs used of each ComputeProfile since the month began, and what of it stood idle.",
                Unit.DOLLARS,
                {by: "Profile"},
                Column("This month", whole, Unit.DOLLARS),
                Column("An hour", _hourly(by), Unit.DOLLARS),
                Column("Idle", _idle(by), Unit.DOLLARS),
                Column("Idle an hour", _idle_hourly(by), Unit.DOLLARS),
                Column("Energy", _month(Recorded.ENERGY, by) / KILOWATT_HOUR, Unit.KILOWATT_HOURS),
                Column("Carbon", _month(Recorded.CARBON, by), Unit.GRAMS),
                sort="This month",
                width=14,
                height=8,
            ),
            trend(
                "Idle in an hour, by profile",
                "What stands idle of each ComputeProfile, as dollars an hour.",
                Unit.DOLLARS,
                Query(_idle_hourly(by), "{{profile}}"),
                stacked=True,
                width=10,
            ),
        ],
    )


def _runs() -> Section:
    def of(name: Recorded) -> Expression:
        return level(name, namespace=NAMESPACES).max(*RUN)

    hourly = (rate(Counter.RUN_COST, namespace=NAMESPACES) * HOUR).max(*RUN)
    tokens = level(Gauge.RUN_TOKENS, namespace=NAMESPACES).max(*RUN) / MILLION
    return Section(
        "By run",
        [
            rows(
                "Runs, the dearest first",
                "From the beginning of each run that trains, waits, or ended within a quarter of an hour. "
                "A million tokens: what it has cost, restarts and all, by the tokens that it has learned "
                "from. A click on a run shows it.",
                Unit.DOLLARS,
                KEYS,
                Column("Cost", of(Recorded.RUN_COST), Unit.DOLLARS),
                Column("An hour", hourly, Unit.DOLLARS),
                Column("A million tokens", of(Recorded.RUN_COST) / tokens.above(0), Unit.DOLLARS),
                Column("Energy", of(Recorded.RUN_ENERGY) / KILOWATT_HOUR, Unit.KILOWATT_HOURS),
                Column("Carbon", of(Recorded.RUN_CARBON), Unit.GRAMS),
                sort="Cost",
                links={"Run": THIS_RUN},
            ),
        ],
    )


def _energy() -> Section:
    of_runs = rate(Counter.RUN_ENERGY, namespace=NAMESPACES)
    measured = rate(Counter.RUN_ENERGY, namespace=NAMESPACES, method=Like("counter|power"))
    emitted = rate(Counter.CARBON, **CHOSEN).sum("profile")
    consumed = rate(Counter.ENERGY, **CHOSEN).sum("profile").above(0)
    return Section(
        "Energy and carbon",
        [
            trend(
                "Power, by method",
                "What devices of runs consume, by how it is known: by a counter, from their power, or "
                "rated by their thermal design power, as they tell nothing.",
                Unit.WATTS,
                Query(of_runs.sum("method"), "{{method}}"),
                stacked=True,
                width=8,
            ),
            trend(
                "Measured share",
                "Share of the energy that devices tell themselves. What is missing is an estimate.",
                Unit.RATIO,
                Query(measured.sum() / of_runs.sum().above(0), "measured"),
                top=1,
                width=4,
            ),
            trend(
                "Carbon in an hour, by namespace",
                "What generating the energy emits, as CO2 equivalent.",
                Unit.GRAMS,
                Query((rate(Counter.CARBON, **CHOSEN) * HOUR).sum("namespace"), "{{namespace}}"),
                stacked=True,
                width=8,
            ),
            trend(
                "Carbon of a kWh",
                "By profile: where and when its nodes consume decides it.",
                Unit.GRAMS,
                Query(emitted / consumed * KILOWATT_HOUR, "{{profile}}"),
                width=4,
            ),
        ],
    )


BOARD: Final = Board(
    uid="footplate-costs",
    title="Cost and carbon",
    description="What is paid and what stands idle, energy and carbon: by namespace, profile and run.",
    variables=[
        choice("namespace", label_values(Recorded.COST, "namespace"), several=True),
        choice("profile", label_values(Recorded.COST, "profile"), several=True),
    ],
    sections=[_this_month(), _by_namespace(), _by_profile(), _runs(), _energy()],
    since="now-7d",
)
