"""A real Prometheus on loopback, and its promtool: the distribution's, as `make prometheus` unpacks it.

with prometheus.server(folder, scrape_configs) as running:
    running.query("footplate_run_step")
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import yaml
from tools.monitoring.rules.alerts import ALERTS

from cluster import paths
from cluster.machine.ports import claim_ports
from tests.support.chart import CHART

Json = dict[str, Any]
START_SECONDS: Final = 30.0


def program(name: str = "prometheus") -> Path:
    """`prometheus` or `promtool`."""
    found = sorted(paths.cache_root().glob(f"prometheus-*/usr/bin/{name}"))
    if not found:
        raise FileNotFoundError(f"no {name} in {paths.cache_root()}: `make prometheus` unpacks it")
    return found[-1]


@dataclass(frozen=True)
class Series:
    """A sample of an answer."""

    labels: dict[str, str]
    value: float


@dataclass(frozen=True)
class Server:
    """One that runs."""

    url: str
    pid: int

    def query(self, expression: str) -> list[Series]:
        """What `expression` is now."""
        found = self.get("query", query=expression)["result"]
        return [Series(dict(sample["metric"]), float(sample["value"][1])) for sample in found]

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer to /api/v1/`path`; an error carries what it said."""
        try:
            with urllib.request.urlopen(
                f"{self.url}/api/v1/{path}?{urlencode(parameters)}", timeout=30
            ) as answer:
                return json.loads(answer.read())["data"]
        except urllib.error.HTTPError as refused:
            raise AssertionError(f"{parameters}: {refused.read().decode()}") from None

    def targets(self) -> list[Json]:
        """What it scrapes, with the health of each and its last error."""
        active: list[Json] = self.get("targets", state="active")["activeTargets"]
        return active

    def wait(self, expression: str, seconds: float = 60.0) -> list[Series]:
        """The first answer that is not empty."""
        deadline = time.monotonic() + seconds
        while not (found := self.query(expression)):
            said = [
                (target["labels"]["job"], target["health"], target["lastError"]) for target in self.targets()
            ]
            assert time.monotonic() < deadline, f"{expression} stays empty; targets: {said}"
            time.sleep(0.1)
        return found


@contextmanager
def server(
    folder: Path,
    scrape_configs: Sequence[Json],
    rules: Sequence[Path] = (),
    interval: str = "1s",
    *,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """One that scrapes so, and evaluates `rules`, each `interval`; it has what is in `folder`/tsdb already.

    `options` are further ones of its command line, `environment` further variables.
    """
    [port] = claim_ports(1)
    said = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "scrape_configs": list(scrape_configs),
        "rule_files": [str(path) for path in rules],
    }
    configuration = folder / "prometheus.yaml"
    configuration.write_text(yaml.safe_dump(said, sort_keys=False))
    log = folder / "prometheus.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [
                program(),
                f"--config.file={configuration}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
                *options,
            ],
            env={**os.environ, **(environment or {})},
            stdout=output,
            stderr=output,
        )
    try:
        running = Server(f"http://127.0.0.1:{port}", process.pid)
        _wait_ready(running, process, log)
        yield running
    finally:
        process.send_signal(signal.SIGKILL)  # nobody reads its data again
        process.wait()


def _wait_ready(running: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        try:
            with urllib.request.urlopen(f"{running.url}/-/ready", timeout=5):
                return
        except OSError:
            time.sleep(0.05)


# -- rules, by promtool ----------------------------------------------------------------------------


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
        [program("promtool"), "test", "rules", *files], capture_output=True, text=True, check=False
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


# -- what a ServiceMonitor asks for ----------------------------------------------------------------


_FOUND = "__meta_kubernetes_"


def scrape_config(
    monitor: Json, service: Json, address: str, authorities: Mapping[str, str], token: str, folder: Path
) -> Json:
    """The scrape configuration of the monitor's one endpoint, for a pod behind `service`.

    Args:
        address: host and port where that pod answers.
        authorities: what ConfigMaps hold under the key that the monitor names, by their name.
        token: of Prometheus' own service account, or in the Secret that the monitor names.
        folder: where files for it go.
    """
    [endpoint] = monitor["spec"]["endpoints"]
    about = service["metadata"]
    name = f"{monitor['metadata']['namespace']}-{monitor['metadata']['name']}"
    found = {
        "namespace": about["namespace"],
        "service_name": about["name"],
        "endpoint_port_name": endpoint["port"],
        "pod_name": f"{about['name']}-0",
        "pod_container_name": about["labels"]["app.kubernetes.io/component"],
    }
    config: Json = {
        "job_name": f"serviceMonitor/{name}/0",
        "honor_labels": endpoint.get("honorLabels", False),
        "metrics_path": endpoint.get("path", "/metrics"),
        "scheme": endpoint.get("scheme", "http"),
        "static_configs": [
            {"targets": [address], "labels": {_FOUND + label: value for label, value in found.items()}}
        ],
        "relabel_configs": [
            _renamed("namespace", "namespace"),
            _renamed("service_name", "service"),
            _renamed("pod_name", "pod"),
            _renamed("pod_container_name", "container"),
            _renamed("service_name", "job"),
            {"target_label": "endpoint", "replacement": endpoint["port"]},
        ],
    }
    if "tlsConfig" in endpoint:
        authority = folder / f"{name}.crt"
        authority.write_text(authorities[endpoint["tlsConfig"]["ca"]["configMap"]["name"]])
        config["tls_config"] = {
            "server_name": endpoint["tlsConfig"]["serverName"],
            "ca_file": str(authority),
        }
    if "bearerTokenFile" in endpoint or "authorization" in endpoint:
        shown = folder / f"{name}.token"
        shown.write_text(token)
        config["authorization"] = {"type": "Bearer", "credentials_file": str(shown)}
    return config


def _renamed(found: str, label: str) -> Json:
    return {"source_labels": [_FOUND + found], "target_label": label}
