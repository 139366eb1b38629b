"""How long does Prometheus take for what the dashboards ask? Bar: 1 s at the median, each query.

It has a day of 100 runs at any time, scraped every 15 seconds with API, operator and DCGM's exporters, and
may use two cores. Each query of each panel and variable is asked as Grafana does for the last 24 hours, all
of them in turns, the first time of a Prometheus that has just started. `of a plain one`: how many times as
long as it takes for all series of one metric of runs, over the same time and asked in the same turns. `CPU`:
what Prometheus itself used for one answer, which others on the machine do not make longer by much. With
`--folder` the day, whose making takes minutes, is kept and found again.

    python -m bench.monitoring.queries [--runs 100] [--nodes 40] [--hours 24] [--turns 5] [--smoke]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from bench.api.serving import Usage
from bench.monitoring.day import Day, Size, day, metas, server
from tools.monitoring import linter, promql
from tools.monitoring.answers import Span, filled, request

from tests.support import prometheus, seen

BAR: Final = 1.0  # seconds
SCRAPE: Final = 15
STEP: Final = 60  # seconds: Grafana's for 24 hours in a panel of 960 to 1,920 pixels
SHOWN: Final = 10
PLAIN: Final = "footplate_run_step"


@dataclass(frozen=True)
class Asked:
    """One query, and where it stands."""

    where: str
    path: str
    parameters: Mapping[str, str]


def questions(dashboard: Mapping[str, Any], chosen: Mapping[str, str], span: Span) -> Iterator[Asked]:
    """Of its variables and panels, as Grafana asks them."""
    title = dashboard["title"].rpartition(" / ")[2]
    for name, variable in linter.variables(dashboard).items():
        if variable["type"] == "query":
            selector, label = promql.label_values(linter.query_of(variable))
            matched = filled(selector, chosen, span.rate_interval)
            between = {"match[]": matched, "start": str(span.start), "end": str(span.end)}
            yield Asked(f"{title} / ${name}", f"label/{label}/values", between)
    for panel in linter.panels(dashboard):
        for target in panel["targets"]:
            place = f" ({target['refId']})" if len(panel["targets"]) > 1 else ""
            yield Asked(f"{title} / {panel['title']}{place}", *request(target, chosen, span))


@dataclass
class Taken:
    """What the answers to a query have taken, the first of them cold."""

    seconds: list[float] = field(default_factory=list)  # until the last byte
    cpu_seconds: float = 0.0  # of Prometheus, of all of them together
    found: int = 0  # series, or values of a label

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)


def ask(running: prometheus.Server, asked: Asked, taken: Taken) -> None:
    """Asks once, and adds what that took."""
    url = f"{running.url}/api/v1/{asked.path}?{urlencode(asked.parameters)}"
    usage = Usage(running.pid)
    used, started = usage.cpu_seconds, time.perf_counter()
    with urllib.request.urlopen(url, timeout=120) as answer:
        body = answer.read()
    taken.seconds.append(time.perf_counter() - started)
    taken.cpu_seconds += usage.cpu_seconds - used
    data = json.loads(body)["data"]
    taken.found = len(data["result"] if isinstance(data, Mapping) else data)


def measured(folder: Path, asked: Sequence[Asked], turns: int) -> dict[str, Taken]:
    """What each query takes, by where it stands."""
    taken = {question.where: Taken() for question in asked}
    with server(folder) as running:
        for _ in range(turns):
            for question in asked:
                ask(running, question, taken[question.where])
    return taken


def report(taken: Mapping[str, Taken]) -> float:
    """Prints the slowest; the median of the slowest, in seconds."""
    plain = taken[PLAIN]
    of_boards = {where: query for where, query in taken.items() if where != PLAIN}
    slowest = sorted(of_boards, key=lambda where: of_boards[where].median, reverse=True)
    print(f"{'median':>9} {'longest':>9} {'first':>9} {'CPU':>9} {'of a plain one':>15}")
    for where in (*slowest[:SHOWN], PLAIN):
        query = taken[where]
        times = query.median, max(query.seconds), query.seconds[0], query.cpu_seconds / len(query.seconds)
        figures = " ".join(f"{value * 1e3:6.0f} ms" for value in times)
        print(f"{figures} {query.median / plain.median:15.1f}  {where}")
    empty = [where for where, query in of_boards.items() if not query.found]
    print(f"all together {sum(query.median for query in of_boards.values()):.1f} s at their medians")
    print(f"{len(empty)} found nothing: {', '.join(empty) or '-'}")
    return of_boards[slowest[0]].median


def contents(folder: Path, found: Day) -> str:
    """How much there is."""
    blocks = metas(folder / "tsdb")
    samples = sum(block["stats"]["numSamples"] for block in blocks)
    series = max(block["stats"]["numSeries"] for block in blocks)
    size = sum(path.stat().st_size for path in (folder / "tsdb").glob("*/**/*") if path.is_file())
    return (
        f"{len(found.lives)} runs, {samples:,} samples of at most {series:,} series at a time, "
        f"{size / 1e6:,.0f} MB in {len(blocks)} blocks"
    )


def main(argv: list[str] | None = None) -> int:
    """Prints the slowest queries; exit code 1 where the median of one is over the bar."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100, help="that are there at any time")
    parser.add_argument("--nodes", type=int, default=40, help="with eight devices each")
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the day is kept, and found when it is there")
    parser.add_argument("--smoke", action="store_true", help="minutes of a few runs: seconds, and no bar")
    chosen = parser.parse_args(argv)
    size = Size(chosen.runs, chosen.nodes, chosen.hours * 3600, SCRAPE)
    size = Size(runs=4, nodes=4, seconds=600, scrape=SCRAPE) if chosen.smoke else size
    with tempfile.TemporaryDirectory() as name:
        folder = chosen.folder or Path(name)
        found = day(folder, size, merged=not chosen.smoke)
        span = Span(found.begin, found.end, STEP, SCRAPE)
        values = {"namespace": found.lives[0].namespace, "run": found.lives[0].name}
        asked = [
            question
            for dashboard in seen.dashboards()
            for question in questions(dashboard, values if "$run" in str(dashboard) else {}, span)
        ]
        print(contents(folder, found))
        print(f"{len(asked)} queries, {chosen.turns} times each; bar {BAR * 1e3:.0f} ms at the median")
        plain = Asked(PLAIN, *request({"expr": PLAIN}, {}, span))
        slowest = report(measured(folder, [*asked, plain], chosen.turns))
    return 0 if chosen.smoke or slowest <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
