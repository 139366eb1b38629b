"""Dashboards of the chart: where a Grafana's sidecar finds them, and that Helm leaves them as they are."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.support.chart import CHART, NAMESPACE, rendered
from tests.support.nonempty import nonempty

FILES: Final = {path.name: path.read_text() for path in nonempty(sorted((CHART / "dashboards").iterdir()))}


def dashboards(*flags: str) -> list[dict[str, Any]]:
    """Their ConfigMaps."""
    return [
        item
        for item in rendered(*flags)
        if item["metadata"]["labels"].get("app.kubernetes.io/component") == "dashboards"
    ]


def test_each_is_a_config_map_that_a_sidecar_finds() -> None:
    maps = dashboards()
    assert {name: text for item in maps for name, text in item["data"].items()} == FILES
    assert any("{{" in text for text in FILES.values()), "legends are there that Helm could take for its own"
    for item in maps:
        about = item["metadata"]
        [file] = item["data"]
        assert (item["kind"], about["namespace"]) == ("ConfigMap", NAMESPACE)
        assert about["name"] == f"footplate-dashboard-{file.removeprefix('footplate-').removesuffix('.json')}"
        assert about["labels"]["grafana_dashboard"] == "1"
        assert about["annotations"] == {"grafana_folder": "Footplate"}


def test_a_sidecar_with_other_habits_finds_them_too() -> None:
    maps = dashboards(
        "--set=metrics.dashboards.namespace=grafana",
        "--set=metrics.dashboards.labels.grafana_dashboard=null",
        "--set=metrics.dashboards.labels.shown=yes",
        "--set=metrics.dashboards.annotations.grafana_folder=null",
    )
    for about in (item["metadata"] for item in nonempty(maps)):
        assert about["namespace"] == "grafana"
        assert about["labels"]["shown"] == "yes" and "grafana_dashboard" not in about["labels"]
        assert "annotations" not in about


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(("--set=metrics.dashboards.enabled=false",), id="not-wanted"),
        pytest.param(
            ("--set=clusterScoped.enabled=false", "--set=operator.watchNamespaces={other}"),
            id="of-another-release",
        ),
        pytest.param(("--set=metrics.dashboards=null",), id="values-of-an-earlier-release"),
    ],
)
def test_there_may_be_none(flags: tuple[str, ...]) -> None:
    assert dashboards(*flags) == []
