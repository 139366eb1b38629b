"""docs/fault-matrix.md, written from the results of `make faults`. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tests.support.matrix import FAULTS, Fault, Phase, applicable, on_pods
from tests.support.simulation.cells import LONGER
from tests.support.simulation.cells import USUAL as IN_THE_SIMULATION
from tests.system.faults.results import PODS, RANDOM, SIMULATED, Result


@dataclass(frozen=True)
class Made:
    """When and where the page is made."""

    time: datetime
    machine: str
    usual: float  # seconds beside a fault's own, on pods


def page(results: Mapping[tuple[str, str, str], Result], made: Made) -> str:
    """The whole page, in Markdown."""
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
            "counted, the run was back in work within its seconds, and nothing of it was left.",
            "",
            f"- {made.time:%Y-%m-%d %H:%M} UTC, {made.machine}",
            f"- {_tally('in the simulation', there, SIMULATED, results)}",
            f"- {_tally('on pods', played, PODS, results)}",
            f"- {RANDOM[0]} of one to four faults in the simulation: {_outcome(results.get(RANDOM))}",
            *_commits(results),
            "",
            "A cell says: seconds from the fault until the run is where it should be again, simulated / on",
            "pods, and the causes counted there. A dash: there is no such cell, for a reason below. A",
            "question mark: it was not played. What is **red** is listed at the end.",
            "",
            *_table(results),
            "",
            "## Seconds and causes that are right",
            "",
            f"In the simulation {IN_THE_SIMULATION:.0f} s more, which a phase lasts by itself, and",
            f"with a rollout or its scoring {LONGER[Phase.ROLLOUT]:.0f} s beside these. On pods",
            f"{made.usual:.0f} s more, which is what the rest of a start takes there at most.",
            "",
            "| fault | family | seconds | causes |",
            "|---|---|---|---|",
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
    results: Mapping[tuple[str, str, str], Result],
) -> str:
    found = [results.get((fault.name, phase.value, place)) for fault, phase in cells]
    green = sum(result is not None and result.green for result in found)
    red = sum(result is not None and not result.green for result in found)
    rest = f", {len(cells) - green - red} not played" if green + red < len(cells) else ""
    return f"{where}: {len(cells)} cells, {green} green, {red} red{rest}"


def _outcome(result: Result | None) -> str:
    if result is None:
        return "not played"
    return "green" if result.green else "**red**"


def _commits(results: Mapping[tuple[str, str, str], Result]) -> Iterable[str]:
    """How many of them were played on which day, on which commit; the newest first."""
    counted: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for key, result in results.items():
        counted[result.day, result.commit]["histories" if key == RANDOM else result.where] += 1
    for (day, commit), places in sorted(counted.items(), reverse=True):
        parts = [f"{places[where]} {words}" for where, words in _WHERE.items() if places[where]]
        parts += ["the histories"] if places["histories"] else []
        yield f"- played {day} on commit {commit}: {', '.join(parts)}"


_WHERE: Final = {SIMULATED: "in the simulation", PODS: "on pods"}


def _table(results: Mapping[tuple[str, str, str], Result]) -> Iterable[str]:
    yield f"| fault | {' | '.join(phase.value for phase in Phase)} |"
    yield "|---" * (len(Phase) + 1) + "|"
    for fault in FAULTS.values():
        yield f"| {fault.name} | {' | '.join(_cell(fault, phase, results) for phase in Phase)} |"


def _cell(fault: Fault, phase: Phase, results: Mapping[tuple[str, str, str], Result]) -> str:
    if applicable(fault, phase):
        return "–"
    simulated = results.get((fault.name, phase.value, SIMULATED))
    pods = results.get((fault.name, phase.value, PODS))
    seconds = f"{_seconds(simulated)} / {'–' if on_pods(fault, phase) else _seconds(pods)}"
    causes = {cause for result in (simulated, pods) if result is not None for cause in result.causes}
    return " ".join([seconds, *sorted(causes)])


def _seconds(result: Result | None) -> str:
    if result is None:
        return "?"
    if not result.green:
        return "**red**"
    return "0" if result.seconds is None else f"{result.seconds:.0f}"


def _expectation(fault: Fault) -> str:
    causes = ", ".join(sorted(cause.value for cause in fault.causes)) or "none"
    return f"| {fault.name} | {fault.family} | {fault.seconds:.0f} | {causes} |"


def _reasons(cells: list[tuple[Fault, Phase]]) -> Iterable[str]:
    everywhere = Counter(reason for cell in cells if (reason := applicable(*cell)))
    pods = Counter(reason for cell in cells if (reason := applicable(*cell) or on_pods(*cell)))
    for reason, count in sorted(pods.items()):
        yield f"| {reason} | {everywhere[reason]} | {count} |"
    yield f"| **cells that remain** | {len(cells) - everywhere.total()} | {len(cells) - pods.total()} |"


def _red(results: Mapping[tuple[str, str, str], Result]) -> Iterable[str]:
    red = [result for result in results.values() if not result.green]
    if red:
        yield "## Red"
        yield ""
        for result in red:
            yield f"- {result.fault}, {result.phase}, {result.where}: {result.error.splitlines()[0]}"
        yield ""
