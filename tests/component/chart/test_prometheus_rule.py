"""The chart's PrometheusRule: where it is, and that it is the rules as they were written, for its release."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from tools.monitoring import promql

from tests.support import prometheus
from tests.support.chart import CHART, NAMESPACE, helm, objects_in, one, rendered, template

RULED: Final = "--set=metrics.rules.enabled=true"
KIND: Final = "--api-versions=monitoring.coreos.com/v1/PrometheusRule"


def groups(*flags: str) -> list[dict[str, Any]]:
    """Of the rules of the release `footplate`."""
    found: list[dict[str, Any]] = one(rendered(RULED, *flags), "PrometheusRule", "footplate")["spec"][
        "groups"
    ]
    return found


def alerts(*flags: str) -> dict[str, dict[str, Any]]:
    """By name."""
    return {rule["alert"]: rule for group in groups(*flags) for rule in group["rules"] if "alert" in rule}


@pytest.mark.parametrize(
    ("flags", "there"),
    [
        pytest.param((), False, id="no-such-kind"),
        pytest.param((KIND,), True, id="where-its-kind-is"),
        pytest.param((RULED,), True, id="on-request"),
        pytest.param((KIND, "--set=metrics.rules.enabled=false"), False, id="not-wanted"),
        pytest.param(("--api-versions=monitoring.coreos.com/v1/ServiceMonitor",), False, id="another-kind"),
    ],
)
def test_the_rule_is_there_where_its_kind_is(flags: tuple[str, ...], there: bool) -> None:
    assert [item["metadata"]["name"] for item in rendered(*flags) if item["kind"] == "PrometheusRule"] == (
        ["footplate"] if there else []
    )


def test_no_rule_is_another_than_in_its_file() -> None:
    """Of a release of this name; what Prometheus fills in looks like a template of Helm."""
    files = [
        yaml.safe_load((CHART / "rules" / f"{name}.yaml").read_text()) for name in ("recording", "alerts")
    ]
    assert groups() == [group for file in files for group in file["groups"]]
    assert any("{{ $labels.name }}" in alert["annotations"]["summary"] for alert in alerts().values())


def test_prometheus_takes_it(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": groups()}))
    command = [prometheus.program("promtool"), "check", "rules", "--lint-fatal", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_another_release_looks_at_its_own_programs() -> None:
    """Both may be in one Prometheus: neither records nor tells what is the other's."""
    done = helm("template", "research", str(CHART), "--namespace=research", "--kube-version=1.36.0", RULED)
    objects = objects_in(done.stdout)
    services = {item["metadata"]["name"] for item in objects if item["kind"] == "Service"}
    found = one(objects, "PrometheusRule", "research-footplate")["spec"]["groups"]
    selectors = [s for group in found for rule in group["rules"] for s in promql.selectors(rule["expr"])]
    jobs = {value for s in selectors for label, _, value in s.matchers if label == "job"}
    assert jobs == {"research-footplate-api", "research-footplate-operator"} <= services


def test_jobs_are_the_names_of_the_services_that_are_monitored() -> None:
    objects = rendered(RULED, "--set=metrics.serviceMonitor.enabled=true")
    monitored = {item["metadata"]["name"] for item in objects if item["kind"] == "ServiceMonitor"}
    selectors = [s for alert in alerts().values() for s in promql.selectors(alert["expr"])]
    assert {value for s in selectors for label, _, value in s.matchers if label == "job"} == monitored


def test_an_alert_that_is_not_wanted_is_not_there() -> None:
    chosen = "--set=metrics.rules.disabled={FootplateRunWaits,FootplateLeftOut}"
    assert alerts().keys() - alerts(chosen).keys() == {"FootplateRunWaits", "FootplateLeftOut"}


def test_a_group_of_which_nothing_is_wanted_is_not_there() -> None:
    both = "--set=metrics.rules.disabled={FootplateProgramRestarts,FootplateLoopLag}"
    assert {group["name"] for group in groups()} - {group["name"] for group in groups(both)} == {
        "footplate-programs"
    }


def test_an_alert_that_there_is_not_cannot_be_taken_out() -> None:
    done = template("--set=metrics.rules.disabled={FootplateRunWait}")
    assert done.returncode != 0 and "/metrics/rules/disabled/0" in done.stderr


def test_the_runbook_is_where_it_is_said_to_be() -> None:
    said = "--set=metrics.rules.runbookUrl=https://wiki.example.com/alerts"
    assert {alert["annotations"]["runbook_url"] for alert in alerts(said).values()} == {
        f"https://wiki.example.com/alerts#{name.lower()}" for name in alerts()
    }


def test_it_has_the_labels_by_which_rules_are_chosen() -> None:
    found = one(
        rendered(RULED, "--set=metrics.rules.labels.release=prometheus"), "PrometheusRule", "footplate"
    )
    assert found["metadata"]["labels"]["release"] == "prometheus"
    assert found["metadata"]["namespace"] == NAMESPACE
