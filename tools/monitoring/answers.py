"""What a Prometheus answers to the queries of a dashboard, with its variables filled in as Grafana does.

Answers go into JSON and come back from it, so that a picture can be drawn again without that Prometheus.
"""

from __future__ import annotations

import json
import math
import re
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from tools.monitoring import linter
from tools.monitoring.promql import RATE_INTERVAL

Json = dict[str, Any]
Ask = Callable[[str, Mapping[str, str]], Any]
"""The data of an answer to a path of Prometheus' API under these parameters."""
_VARIABLE: Final = re.compile(r"\$\{?([a-z_]+)\}?")


@dataclass(frozen=True)
class Span:
    """A time range, Unix seconds, in steps; and how far apart scrapes are, in seconds."""

    start: float
    end: float
    step: int
    scrape: int = 30

    @property
    def rate_interval(self) -> str:
        """What Grafana puts in for `$__rate_interval`."""
        return f"{max(self.step + self.scrape, 4 * self.scrape)}s"


def filled(query: str, chosen: Mapping[str, str], rate_interval: str) -> str:
    """`query` as Prometheus is asked, where these values of variables are chosen; all others are at All.

    Only regular expressions may be at All: a variable that has one value has to be chosen.
    """
    known = query.replace(RATE_INTERVAL, rate_interval)
    return _VARIABLE.sub(lambda found: chosen.get(found[1], linter.ALL), known)


def request(target: Mapping[str, Any], chosen: Mapping[str, str], span: Span) -> tuple[str, dict[str, str]]:
    """Path and parameters with which Grafana asks a target of a panel."""
    query = filled(target["expr"], chosen, span.rate_interval)
    if target.get("instant"):
        return "query", {"query": query, "time": str(span.end)}
    return over(query, span)


def over(query: str, span: Span) -> tuple[str, dict[str, str]]:
    """Path and parameters that ask for each step of `span`, where no variable is left in `query`."""
    between = {"start": str(span.start), "end": str(span.end), "step": str(span.step)}
    return "query_range", {"query": query, **between}


def http(url: str) -> Ask:
    """Asks the Prometheus at `url`."""

    def ask(path: str, parameters: Mapping[str, str]) -> Any:
        with urllib.request.urlopen(f"{url}/api/v1/{path}?{urlencode(parameters)}", timeout=60) as answer:
            return json.loads(answer.read())["data"]

    return ask


@dataclass(frozen=True)
class Series:
    """Points of an answer: Unix seconds and value, oldest first."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]

    @property
    def last(self) -> float:
        """The newest value."""
        return self.points[-1][1]


@dataclass(frozen=True)
class Answers:
    """To all queries of a dashboard."""

    span: Span
    found: Mapping[tuple[int, str], tuple[Series, ...]]  # by number of the panel and letter of the query

    def of(self, panel: Mapping[str, Any], letter: str) -> tuple[Series, ...]:
        """What that query of `panel` found."""
        return self.found.get((panel["id"], letter), ())

    def json(self) -> Json:
        """For a file."""
        queries = [
            {
                "panel": number,
                "query": letter,
                "series": [{"labels": dict(known.labels), "points": known.points} for known in series],
            }
            for (number, letter), series in self.found.items()
        ]
        span = self.span
        about = {"start": span.start, "end": span.end, "step": span.step, "scrape": span.scrape}
        return {"span": about, "queries": queries}

    @classmethod
    def of_json(cls, said: Json) -> Answers:
        """From a file."""
        found = {
            (query["panel"], query["query"]): tuple(
                Series(known["labels"], tuple((at, value) for at, value in known["points"]))
                for known in query["series"]
            )
            for query in said["queries"]
        }
        return cls(Span(**said["span"]), found)


def asked(dashboard: Mapping[str, Any], ask: Ask, chosen: Mapping[str, str], span: Span) -> Answers:
    """What `ask` answers to each query of each panel within `span`."""
    found = {}
    for panel in linter.panels(dashboard):
        for target in panel["targets"]:
            data = ask(*request(target, chosen, span))
            found[panel["id"], target["refId"]] = tuple(series_in(data))
    return Answers(span, found)


def series_in(data: Json) -> list[Series]:
    """Those with points: NaN and infinity are none, they say that there was nothing to divide by."""
    if data["resultType"] == "scalar":
        return [Series({}, (_point(data["result"]),))]
    found = []
    for result in data["result"]:
        points = [_point(said) for said in result.get("values", [result.get("value")])]
        numbers = tuple((at, value) for at, value in points if math.isfinite(value))
        if numbers:
            labels = {name: value for name, value in result["metric"].items() if name != "__name__"}
            found.append(Series(labels, numbers))
    return found


def _point(said: tuple[float, str]) -> tuple[float, float]:
    return float(said[0]), float(said[1])
