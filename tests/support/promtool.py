"""Unit tests of rules by promtool: series as they come in, and what a query or an alert is at some time.

Times are minutes, a sample a minute from 0 on. Values are in promtool's notation: `0+60x10` is 0 and ten
more, each 60 higher, `1x5` six times 1, `_` no sample, `stale` the end of a series that is shown no more.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from tools.monitoring.rules.alerts import ALERTS

from tests.support import prometheus
from tests.support.chart import CHART

Json = dict[str, Any]
# Of a test of an alert its name; of a query the comment in it, as it is told by itself alone.
_NAMED: Final = re.compile(r'^ *(?:name: |expr: ".* # )(.*?)(?:,$|", time: .*$)', re.MULTILINE)
_LABEL: Final = re.compile(r"\{\{ \$labels\.(\w+) }}")
_VALUE: Final = re.compile(r"\{\{ \$value[^}]*}}")


@dataclass(frozen=True)
class Case:
    """An alert at some time: what is told from then on, or that nothing is told then."""

    alert: str
    minute: int
    series: Mapping[str, str]
    labels: Mapping[str, str] | None = None  # beside the severity; None: it is not told
    value: str = ""  # as the description has it


def fires(alert: str, minute: int, series: Mapping[str, str], value: str = "", **labels: str) -> Case:
    """It is told of whom `labels` say, and was not in the minute before."""
    return Case(alert, minute, series, labels, value)


def quiet(alert: str, minute: int, series: Mapping[str, str]) -> Case:
    """It is not told."""
    return Case(alert, minute, series)


def series_of(job: str, metric: str, replica: int = 0, /, **labels: str) -> str:
    """A series of a replica of the program `job`, with what a scrape adds."""
    pod = f"{job}-{replica}"
    known = {"job": job, "instance": f"10.0.0.{replica}:8080", "pod": pod, **labels}
    return metric + "{" + ",".join(f'{label}="{value}"' for label, value in known.items()) + "}"


def verdicts(folder: Path, cases: Mapping[str, Case]) -> dict[str, str]:
    """What promtool finds wrong with `cases` of the chart's alerts, by their names.

    Each alert is in a file of its own: promtool evaluates all rules of a file in each minute of each case.
    """
    written = yaml.safe_load((CHART / "rules" / "alerts.yaml").read_text())
    suites: dict[Path, dict[str, Json]] = {}
    for rule in (rule for group in written["groups"] for rule in group["rules"]):
        asked = {name: _asked(case) for name, case in cases.items() if case.alert == rule["alert"]}
        file = folder / f"{rule['alert']}.rules.yaml"
        file.write_text(yaml.safe_dump({"groups": [{"name": rule["alert"], "rules": [rule]}]}))
        suites[file] = asked
    return complaints(folder, suites)


def all_both_ways(cases: Iterable[Case]) -> set[str]:
    """The alerts of which there is a case where they are told and one where they are not."""
    seen = {(case.alert, case.labels is None) for case in cases}
    return {name for name, silent in seen if (name, not silent) in seen}


def _asked(case: Case) -> Json:
    """A test that the alert is told in these very words and not before, or not at all."""
    alert = ALERTS[case.alert]
    asked = [{"alertname": case.alert, "eval_time": f"{case.minute}m", "exp_alerts": list[Json]()}]
    if case.labels is not None:
        words = dict(alert.rule()["annotations"])
        for name in ("summary", "description"):
            words[name] = _filled(words[name], case.labels, case.value)
        labels = {"severity": alert.severity.value, **case.labels}
        asked[0]["exp_alerts"] = [{"exp_labels": labels, "exp_annotations": words}]
        asked.append({"alertname": case.alert, "eval_time": f"{case.minute - 1}m", "exp_alerts": []})
    return {**inputs(case.series), "alert_rule_test": asked}


def _filled(template: str, labels: Mapping[str, str], value: str) -> str:
    """A label that is not there is an error: Prometheus would leave a hole in the sentence."""
    return _VALUE.sub(lambda _: value, _LABEL.sub(lambda found: labels[found[1]], template))


def value_of(expression: str, minutes: int, series: Mapping[str, str], expected: Mapping[str, float]) -> Json:
    """A test that `expression` has these samples, by their series, and no others."""
    samples = [{"labels": name, "value": value} for name, value in expected.items()]
    asked = {"expr": expression, "eval_time": f"{minutes}m", "exp_samples": samples}
    return {**inputs(series), "promql_expr_test": [asked]}


def inputs(series: Mapping[str, str]) -> Json:
    """Values by series."""
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
    }


def complaints(folder: Path, suites: Mapping[Path, Mapping[str, Json]]) -> dict[str, str]:
    """What promtool finds wrong with tests of rule files, by the tests' names; it is started once for all."""
    files = [folder / f"tests-{number}.yaml" for number, _ in enumerate(suites)]
    for file, (rules, tests) in zip(files, suites.items(), strict=True):
        named = [_named(name, test) for name, test in tests.items()]
        said = {"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": named}
        file.write_text(yaml.safe_dump(said, sort_keys=False))
    done = subprocess.run(
        [prometheus.program("promtool"), "test", "rules", *files], capture_output=True, text=True, check=False
    )
    _, *found = _NAMED.split(done.stdout + done.stderr)
    assert done.returncode == 0 or found, done.stderr
    told: dict[str, str] = {}
    for name, fault in zip(found[::2], found[1::2], strict=True):
        told[name] = told.get(name, "") + fault
    return told


def _named(name: str, test: Json) -> Json:
    asked = [{**query, "expr": f"{query['expr']} # {name}"} for query in test.get("promql_expr_test", ())]
    return {"name": name, **test, "promql_expr_test": asked}
