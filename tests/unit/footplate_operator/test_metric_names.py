"""Every metric of the operator keeps the rules of names, and has its row in the page about them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from footplate_contracts.names import Cause, Phase
from footplate_operator.runtime.kinds import POD
from footplate_operator.runtime.metrics import Metrics
from footplate_operator.trainingrun.metrics import RunMetrics
from tests.support.exposition import families, faults
from tests.support.operator_fakes import run_manifest
from tests.support.operator_world import World, running

PAGE: Final = Path(__file__).parents[3] / "docs" / "observability.md"
# How many values a label may have that can have ten or more.
BOUNDS: Final = {
    "phase": len(Phase),
    "cause": len(Cause) + 1,  # and those of a newer release
    "kind": 15,  # that are watched
    "code": 20,  # that an API server answers with
}


async def played() -> World:
    """A world in which about everything has happened that is counted."""
    world = await running(training={**run_manifest()["spec"]["training"], "steps": 10_000})
    world.end_pod("tiny-w1-0", 137)
    await world.live(30, until=lambda: world.phase == "Running" and "tiny-w1-1" in world.cluster.names(POD))
    world.metrics.count_request("GET", 200)
    world.metrics.count_request("PATCH", 0)
    world.reconciler.controller.hooks.update_gauges(world.cache.count)
    for gauge in (world.metrics.watch_heard.labels("Pod"), world.metrics.loop_lag, world.metrics.leading):
        gauge.set(1.0)
    return world


async def test_names_and_labels_keep_the_rules() -> None:
    text = (await played()).metrics.text().decode()
    assert list(faults(text, BOUNDS)) == []
    assert len(families(text)) >= 13


async def test_each_metric_has_its_row() -> None:
    page = PAGE.read_text()
    text = (await played()).metrics.text().decode()
    said = {family.name + ("_total" if family.type == "counter" else "") for family in families(text)}
    assert {name for name in said if f"`{name}`" not in page} == set()


async def test_counters_begin_at_zero() -> None:
    """A first failure is an increase, and not the beginning of a series."""
    text = World().metrics.text().decode()
    counters = [family for family in families(text) if family.type == "counter"]
    assert {family.name for family in counters if not family.samples} == set()
    assert {sample.value for family in counters for sample in family.samples} == {0.0}


async def test_a_cause_of_a_newer_release_is_no_series_of_its_own() -> None:
    metrics = Metrics()
    RunMetrics(metrics.registry).count_restarts({}, {"SunSpots": 2, "NodeLost": 1})
    text = metrics.text().decode()
    assert 'footplate_operator_restarts_total{cause="Unknown"} 2.0' in text and "SunSpots" not in text
