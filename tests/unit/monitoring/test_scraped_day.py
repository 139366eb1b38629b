"""The day on which queries are timed has what they ask for, as a scrape would bring it."""

from __future__ import annotations

from random import Random
from typing import Final

import pytest
from bench.monitoring.day import Scrapes, Size
from bench.monitoring.lives import SHOWN_AFTER, lives
from tools.monitoring import linter, promql

from tests.support import seen

BEGIN: Final = 1_768_435_200
SIZE: Final = Size(runs=4, nodes=4, seconds=1200, scrape=15)


@pytest.fixture(scope="module")
def scrapes() -> list[dict[str, float]]:
    """Samples by series, of some moments: the second one is behind the first, the third in the afternoon."""
    made = Scrapes(SIZE, BEGIN, Random(7))
    return [samples(list(made.at(BEGIN + seconds))) for seconds in (300, 315, 900)]


def samples(lines: list[str]) -> dict[str, float]:
    pairs = [line.rsplit(" ", 2)[:2] for line in lines]
    found = {series: float(value) for series, value in pairs}
    assert len(found) == len(lines), "a series is there twice"
    return found


def asked() -> set[str]:
    """The metrics of all panels that no rule records."""
    targets = [target for dashboard in seen.dashboards() for _, target in linter.targets(dashboard)]
    recorded = {rule.get("record") for group in seen.rule_groups() for rule in group["rules"]}
    return {selector.name for target in targets for selector in promql.selectors(target["expr"])} - recorded


def test_whatever_a_panel_asks_for_is_scraped(scrapes: list[dict[str, float]]) -> None:
    shown = {series.partition("{")[0] for found in scrapes for series in found}
    assert asked() - shown == set()


def test_no_counter_of_a_replica_falls(scrapes: list[dict[str, float]]) -> None:
    before, after, _ = scrapes
    counters = [series for series in before if series.partition("{")[0].endswith(("_total", "_bucket"))]
    fallen = {series for series in counters if after.get(series, before[series]) < before[series]}
    assert counters and not fallen


def test_devices_have_their_pods_names_under_either_labels(scrapes: list[dict[str, float]]) -> None:
    members = [series for series in scrapes[0] if series.startswith("footplate_run_membership_info")]
    devices = [series for series in scrapes[0] if series.startswith("DCGM_FI_DEV_GPU_UTIL")]
    for label in (",pod=", "exported_pod="):
        named = {series.partition(f'{label}"')[2].partition('"')[0] for series in devices} - {""}
        assert any(f'pod="{pod}"' in member for pod in named for member in members), label


def test_runs_are_there_at_any_time_and_go_after_their_end() -> None:
    known = lives(10, BEGIN, 86_400, Random(7))
    for at in range(BEGIN, BEGIN + 86_400, 3600):
        assert sum(life.created <= at < life.ended for life in known) == 10
    ended = next(life for life in known if life.ended < BEGIN + 43_200)
    assert ended.shown(ended.ended) and not ended.shown(ended.ended + SHOWN_AFTER)
