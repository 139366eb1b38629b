"""docs/fault-matrix.md, written from the results of `make faults`. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tests.support.matrix import FAULTS, ON_PODS, Fault, Phase, applicable, on_pods
from tests.support.simulation.cells import LONGER
from tests.support.simulation.cells import USUAL as IN_THE_SIMULATION
from tests.system.faults.evidence import changed_since, rejudged
from tests.system.faults.results import PODS, RANDOM, SIMULATED, Key, Result


@dataclass(frozen=True)
class Made:
    """When and where the page is made."""

    time: datetime
    machine: str
    trees: Mapping[str, str]  # of the product's folders; a result of others is stale


def page(recorded: Mapping[Key, Result], made: Made) -> str:
    """The whole page, in Markdown."""
    results = {key: rejudged(result) for key, result in recorded.items()}
    stale = {key for key, result in results.items() if changed_since(result, made.trees)}
    cells = [(fault, phase) for fault in FAULTS.values() for phase in Phase]
    there = [cell for cell in cells if not applicable(*cell)]
    played = [cell for cell in there if not on_pods(*cell)]
    return "\n".join(
        [
            "# The fault matrix",
            "",
            "`make faults` writes this page: each fault in each phase of a run, in the simulation and with",
            "real pods on the local cluster. A cell is green if the losses and samples of the whole history",
            "are those of an undisturbed run, each step is there once, nothing but the causes below was",
            "counted, it was counted in time, the run was back in work within its seconds, and nothing of",
            "it was left. What was played on another product than today's is stale: it proves nothing.",
            "",
            f"- {made.time:%Y-%m-%d %H:%M} UTC, {made.machine}",
            f"- {_tally('in the simulation', there, SIMULATED, results, stale)}",
            f"- {_tally('on pods', played, PODS, results, stale)}",
            f"- {RANDOM[0]} of one to four faults in the simulation: "
            f"{_outcome(results.get(RANDOM))}{', stale' if RANDOM in stale else ''}",
            *_days(results, made.trees),
            "",
            "A cell says: seconds from the fault until the run is where it should be again, simulated / on",
            "pods, and the causes counted there. A star: it is stale. A dash: there is no such cell, for a",
            "reason below. A question mark: it was not played. What is **red** is listed at the end.",
            "",
            *_table(results, stale),
            "",
            "## Seconds and causes that are right",
            "",
            f"In the simulation {IN_THE_SIMULATION:.0f} s more, which a phase lasts by itself, and",
            f"with a rollout or its scoring {LONGER[Phase.ROLLOUT]:.0f} s beside these. On pods",
            f"{ON_PODS:.0f} s more, which is what the rest of a start takes there at most. Detected: seconds",
            "from the fault until the status counts a failure, where it counts one.",
            "",
            "| fault | family | seconds | detected | cause, and others where they are right |",
            "|---|---|---|---|---|",
            *(_expectation(fault) for fault in FAULTS.values()),
            "",
            "## Cells that there are not",
            "",
            "| reason | simulated | on pods |",
            "|---|---|---|",
            *_reasons(cells),
            "",
            *_red(results),
        ]
    )


def _tally(
    where: str,
    cells: list[tuple[Fault, Phase]],
    place: str,
    results: Mapping[Key, Result],
    stale: Set[Key],
) -> str:
    keys = [(fault.name, phase.value, place) for fault, phase in cells]
    found = [results.get(key) for key in keys]
    green = sum(result is not None and result.green for result in found)
    red = sum(result is not None and not result.green for result in found)
    rest = f", {len(cells) - green - red} not played" if green + red < len(cells) else ""
    old = f"; {len(stale & set(keys))} are stale" if stale & set(keys) else ""
    return f"{where}: {len(cells)} cells, {green} green, {red} red{rest}{old}"


def _outcome(result: Result | None) -> str:
    if result is None:
        return "not played"
    return "green" if result.green else "**red**"


def _days(results: Mapping[Key, Result], trees: Mapping[str, str]) -> Iterable[str]:
    """How many of them were played on which day, and what of the product changed since; the newest first."""
    counted: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for key, result in results.items():
        counted[result.day, ", ".join(changed_since(result, trees))][
            "histories" if key == RANDOM else result.where
        ] += 1
    for (day, changed), places in sorted(counted.items(), reverse=True):
        parts = [f"{places[where]} {words}" for where, words in _WHERE.items() if places[where]]
        parts += ["the histories"] if places["histories"] else []
        state = f"stale, as {changed} changed since" if changed else "of today's product"
        yield f"- played {day}, {state}: {', '.join(parts)}"


_WHERE: Final = {SIMULATED: "in the simulation", PODS: "on pods"}


def _table(results: Mapping[Key, Result], stale: Set[Key]) -> Iterable[str]:
    yield f"| fault | {' | '.join(phase.value for phase in Phase)} |"
    yield "|---" * (len(Phase) + 1) + "|"
    for fault in FAULTS.values():
        yield f"| {fault.name} | {' | '.join(_cell(fault, phase, results, stale) for phase in Phase)} |"


def _cell(fault: Fault, phase: Phase, results: Mapping[Key, Result], stale: Set[Key]) -> str:
    if applicable(fault, phase):
        return "–"
    keys = [(fault.name, phase.value, where) for where in (SIMULATED, PODS)]
    simulated, pods = (_seconds(results.get(key), key in stale) for key in keys)
    causes = {cause for key in keys if key in results for cause in results[key].causes}
    return " ".join([simulated, "/", "–" if on_pods(fault, phase) else pods, *sorted(causes)])


def _seconds(result: Result | None, stale: bool) -> str:
    if result is None:
        return "?"
    if not result.green:
        return "**red**"
    return f"{result.seconds or 0.0:.0f}{'*' if stale else ''}"


def _expectation(fault: Fault) -> str:
    causes = "; ".join([fault.cause or "none", *(f"{cause}: {reason}" for cause, reason in fault.also)])
    return f"| {fault.name} | {fault.family} | {fault.seconds:.0f} | {fault.detected:.0f} | {causes} |"


def _reasons(cells: list[tuple[Fault, Phase]]) -> Iterable[str]:
    everywhere = Counter(reason for cell in cells if (reason := applicable(*cell)))
    pods = Counter(reason for cell in cells if (reason := applicable(*cell) or on_pods(*cell)))
    for reason, count in sorted(pods.items()):
        yield f"| {reason} | {everywhere[reason]} | {count} |"
    yield f"| **cells that remain** | {len(cells) - everywhere.total()} | {len(cells) - pods.total()} |"


def _red(results: Mapping[Key, Result]) -> Iterable[str]:
    red = [result for result in results.values() if not result.green]
    if red:
        yield "## Red"
        yield ""
        for result in red:
            yield f"- {result.fault}, {result.phase}, {result.where}: {result.error.splitlines()[0]}"
        yield ""
