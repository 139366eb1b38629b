"""A real Prometheus that watches the installation on the cluster, and what the chart's questions get of it.

It scrapes as the chart's own ServiceMonitors say, through forwarded ports, and evaluates the chart's rules.
Each question of a dashboard, a variable and a rule is then asked over all of the time that was watched.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from tools.monitoring import questions
from tools.monitoring.answers import Span, over, series_in
from tools.monitoring.answers import asked as pictured
from tools.monitoring.picture.board import svg
from tools.monitoring.questions import Question

from demo.api import Forward
from demo.kube import Kube
from tests.support import prometheus
from tests.support.chart import CHART, NAMESPACE, one, rendered

RATE_INTERVAL: Final = "15s"  # of scrapes a second apart
_STEP_SECONDS: Final = 2
_POINTS: Final = 120  # of a graph
_ACCOUNT: Final = "footplate-tests-prometheus"
_PORTS: Final = {"operator": "metrics", "api": "https"}


@dataclass(frozen=True)
class Answer:
    """What a question got: how many series, and the newest value of one."""

    question: Question
    series: int
    value: float | None

    @property
    def empty(self) -> bool:
        """Whether nobody would see anything."""
        return self.series == 0


def dashboards() -> list[dict[str, Any]]:
    """Those of the chart."""
    return [json.loads(path.read_text()) for path in sorted((CHART / "dashboards").glob("*.json"))]


def rule_groups() -> list[dict[str, Any]]:
    """Of the chart's recording and alerting rules."""
    files = [yaml.safe_load(path.read_text()) for path in rule_files()]
    return [group for file in files for group in file["groups"]]


def rule_files() -> list[Path]:
    """As Prometheus reads them."""
    return sorted((CHART / "rules").glob("*.yaml"))


@contextmanager
def watched(kube: Kube, folder: Path) -> Iterator[prometheus.Server]:
    """A Prometheus that scrapes operator and API each second; its account goes with the block."""
    objects = rendered("--set", "metrics.serviceMonitor.enabled=true")
    forwards = {
        component: Forward(kube, f"footplate-{component}", port) for component, port in _PORTS.items()
    }
    authority = kube.get("configmap", "footplate-api-ca", "-n", NAMESPACE)
    assert authority is not None
    try:
        token = _token(kube)
        configs = [
            prometheus.scrape_config(
                one(objects, "ServiceMonitor", f"footplate-{component}"),
                one(objects, "Service", f"footplate-{component}"),
                f"127.0.0.1:{forward.port()}",
                {"footplate-api-ca": authority["data"]["ca.crt"]},
                token,
                folder,
            )
            for component, forward in forwards.items()
        ]
        with prometheus.server(folder, configs, rule_files()) as server:
            server.wait("footplate_operator_build_info")
            server.wait("footplate_api_build_info")
            yield server
    finally:
        for forward in forwards.values():
            forward.end()
        _forget(kube)


def _forget(kube: Kube) -> None:
    for kind in ("clusterrolebinding", "serviceaccount"):
        kube.kubectl("delete", kind, _ACCOUNT, "-n", NAMESPACE, "--ignore-not-found")


def _token(kube: Kube) -> str:
    """Of an account that may read metrics, as Prometheus' own may."""
    account = f"{NAMESPACE}:{_ACCOUNT}"
    _forget(kube)  # of a watch that was killed
    kube.kubectl("create", "serviceaccount", _ACCOUNT, "-n", NAMESPACE)
    kube.kubectl(
        *("create", "clusterrolebinding", _ACCOUNT),
        *("--clusterrole=footplate-metrics", f"--serviceaccount={account}"),
    )
    return kube.kubectl("create", "token", _ACCOUNT, "-n", NAMESPACE, "--duration=1h").strip()


def asked(chosen: Mapping[str, str]) -> list[Question]:
    """All questions of the chart; `chosen` are the values of the dashboards' variables."""
    found = [
        question
        for dashboard in dashboards()
        for question in questions.of_dashboard(dashboard, chosen, RATE_INTERVAL)
    ]
    return [*found, *questions.of_rules(rule_groups())]


def answers(server: prometheus.Server, asked: Iterable[Question], since: float) -> list[Answer]:
    """What each got at any time from `since` (Unix time) until now."""
    span = Span(since, time.time(), _STEP_SECONDS, scrape=1)
    return [_answer(server, question, span) for question in asked]


def _answer(server: prometheus.Server, question: Question, span: Span) -> Answer:
    path, parameters = over(question.query, span)
    found = series_in(server.get(path, **parameters))
    return Answer(question, len(found), found[0].last if found else None)


def draw(server: prometheus.Server, chosen: Mapping[str, str], since: float, folder: Path) -> None:
    """A picture of each dashboard from `since` (Unix time) until now, as NAME.svg in `folder`."""
    until = time.time()
    step = max(1, round((until - since) / _POINTS))
    span = Span(since, until, step, scrape=1)

    def ask(path: str, parameters: Mapping[str, str]) -> Any:
        return server.get(path, **parameters)

    for dashboard in dashboards():
        name = dashboard["uid"].removeprefix("footplate-")
        (folder / f"{name}.svg").write_text(svg(dashboard, pictured(dashboard, ask, chosen, span)))


def table(answers: Iterable[Answer], reasons: Mapping[str, str]) -> str:
    """Markdown: each question with its value, or why there is none."""
    rows = [
        f"| {answer.question.where} | {answer.series} | {_shown(answer, reasons)} |" for answer in answers
    ]
    return (
        "\n".join(("| where | series | newest value, or why there is none |", "|---|---|---|", *rows)) + "\n"
    )


def _shown(answer: Answer, reasons: Mapping[str, str]) -> str:
    if answer.value is None:
        return reasons.get(answer.question.where, "**nobody has said why**")
    return f"{answer.value:.6g}"
