"""Draws a dashboard as its JSON says, without Grafana.

python -m tools.monitoring.picture charts/footplate/dashboards/footplate-run.json \\
    --prometheus http://localhost:9090 --hours 6 --choose namespace=team-a --choose run=tiny \\
    --save answers.json > run.svg

The answers that are saved draw the same picture again, by `--answers answers.json` for `--prometheus`.
A variable that is not chosen is at All; `namespace` and `run` of the run's dashboard have to be.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from tools.monitoring.answers import Answers, Span, asked, http
from tools.monitoring.picture.board import svg

POINTS = 120  # of a graph


def main() -> int:
    """Writes SVG to stdout."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.monitoring.picture",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dashboard", type=Path, help="its JSON")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--prometheus", metavar="URL")
    source.add_argument("--answers", type=Path, metavar="FILE", help="saved before")
    parser.add_argument("--choose", action="append", default=[], metavar="VARIABLE=VALUE")
    parser.add_argument("--hours", type=float, default=24.0, help="how far back (24)")
    parser.add_argument("--until", type=float, default=None, metavar="SECONDS", help="Unix time (now)")
    parser.add_argument("--scrape", type=int, default=30, metavar="SECONDS", help="between scrapes (30)")
    parser.add_argument("--save", type=Path, metavar="FILE", help="where answers go")
    chosen = parser.parse_args()
    dashboard = json.loads(chosen.dashboard.read_text())
    if chosen.answers:
        answers = Answers.of_json(json.loads(chosen.answers.read_text()))
    else:
        until = chosen.until if chosen.until is not None else time.time()
        seconds = chosen.hours * 3600
        span = Span(until - seconds, until, max(1, round(seconds / POINTS)), chosen.scrape)
        variables = dict(choice.split("=", 1) for choice in chosen.choose)
        answers = asked(dashboard, http(chosen.prometheus), variables, span)
    if chosen.save:
        chosen.save.write_text(json.dumps(answers.json(), separators=(",", ":")) + "\n")
    sys.stdout.write(svg(dashboard, answers))
    return 0


if __name__ == "__main__":
    sys.exit(main())
