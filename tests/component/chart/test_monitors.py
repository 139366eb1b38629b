"""ServiceMonitors of the chart: where they are, whom they find, what they show and what they leave alone."""

from __future__ import annotations

from typing import Final

import pytest

from tests.support.chart import one, rendered

MONITORED: Final = ("--set", "metrics.serviceMonitor.enabled=true")


@pytest.mark.parametrize(
    ("flags", "there"),
    [
        pytest.param((), False, id="no-such-kind"),
        pytest.param(
            ("--api-versions=monitoring.coreos.com/v1/ServiceMonitor",), True, id="where-its-kind-is"
        ),
        pytest.param(MONITORED, True, id="on-request"),
        pytest.param(
            (
                "--api-versions=monitoring.coreos.com/v1/ServiceMonitor",
                "--set=metrics.serviceMonitor.enabled=false",
            ),
            False,
            id="not-wanted",
        ),
    ],
)
def test_monitors_are_there_where_their_kind_is(flags: tuple[str, ...], there: bool) -> None:
    names = {item["metadata"]["name"] for item in rendered(*flags) if item["kind"] == "ServiceMonitor"}
    assert names == ({"footplate-api", "footplate-operator"} if there else set())


def test_monitors_leave_the_labels_of_runs_alone() -> None:
    objects = rendered(*MONITORED)
    [own] = one(objects, "ServiceMonitor", "footplate-operator")["spec"]["endpoints"]
    assert own == {"port": "metrics", "interval": "30s", "honorLabels": True}
    [api] = one(objects, "ServiceMonitor", "footplate-api")["spec"]["endpoints"]
    assert api == {
        "port": "https",
        "scheme": "https",
        "interval": "30s",
        "honorLabels": True,
        "tlsConfig": {
            "serverName": "footplate-api.footplate-system.svc",
            "ca": {"configMap": {"name": "footplate-api-ca", "key": "ca.crt"}},
        },
        "bearerTokenFile": "/var/run/secrets/kubernetes.io/serviceaccount/token",
    }


@pytest.mark.parametrize("component", ["api", "operator"])
def test_a_monitor_finds_its_service_and_no_other(component: str) -> None:
    objects = rendered(*MONITORED)
    monitor = one(objects, "ServiceMonitor", f"footplate-{component}")["spec"]
    wanted = monitor["selector"]["matchLabels"].items()
    [service] = [
        item for item in objects if item["kind"] == "Service" and wanted <= item["metadata"]["labels"].items()
    ]
    assert service["metadata"]["name"] == f"footplate-{component}"
    assert monitor["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}


def test_a_monitor_shows_the_token_that_is_given() -> None:
    objects = rendered(*MONITORED, "--set", "metrics.serviceMonitor.tokenSecret.name=prometheus")
    [api] = one(objects, "ServiceMonitor", "footplate-api")["spec"]["endpoints"]
    assert api["authorization"] == {"type": "Bearer", "credentials": {"name": "prometheus", "key": "token"}}
    assert "bearerTokenFile" not in api
    [own] = one(objects, "ServiceMonitor", "footplate-operator")["spec"]["endpoints"]
    assert "authorization" not in own
    public = rendered(*MONITORED, "--set", "api.auth.publicMetrics=true")
    [api] = one(public, "ServiceMonitor", "footplate-api")["spec"]["endpoints"]
    assert "bearerTokenFile" not in api and "authorization" not in api
