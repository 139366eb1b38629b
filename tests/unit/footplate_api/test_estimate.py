"""What an hour of a run costs: exact, and unknown where a profile does not say it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from footplate_api.runs.estimate import Hourly, hourly, nodes

GPU = {"count": 8, "tdpWatts": 700.0}
GRID = {"powerUsageEffectiveness": 1.1, "gramsPerKilowattHour": 56}


@pytest.mark.parametrize(
    ("profile", "count", "expected"),
    [
        pytest.param({}, 2, (None, None, None), id="says-nothing"),
        pytest.param({"price": {"dollarsPerNodeHour": 0.1}}, 3, ("0.3", None, None), id="no-binary-fraction"),
        pytest.param({"price": {"dollarsPerNodeHour": 0}}, 3, ("0", None, None), id="free-is-not-unknown"),
        pytest.param({"price": {"dollarsPerNodeHour": 1e9}}, 4096, ("4096000000000", None, None), id="large"),
        pytest.param({"gpu": GPU}, 2, (None, "13.44", None), id="usual-effectiveness"),
        pytest.param({"gpu": GPU, "energy": GRID}, 2, (None, "12.32", "0.68992"), id="all-of-energy"),
        pytest.param({"energy": GRID}, 2, (None, None, None), id="no-device"),
        pytest.param(
            {"price": {"dollarsPerNodeHour": "1"}, "gpu": 8}, 2, (None, None, None), id="another-form"
        ),
        pytest.param({"price": {"dollarsPerNodeHour": 1}}, None, (None, None, None), id="nodes-unknown"),
    ],
)
def test_an_hour(profile: dict[str, Any], count: int | None, expected: tuple[str | None, ...]) -> None:
    found = hourly(profile, count)
    assert found == Hourly(*(None if text is None else Decimal(text) for text in expected))
    assert [None if part is None else f"{part:f}" for part in (found.dollars, found.kilowatt_hours)] == [
        *expected[:2]
    ]


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        pytest.param({"compute": {"nodes": 4}}, 4, id="workers"),
        pytest.param({"compute": {"nodes": 4, "spares": 2}}, 6, id="and-spares"),
        pytest.param({}, None, id="unknown"),
    ],
)
def test_the_nodes_that_are_held(spec: dict[str, Any], count: int | None) -> None:
    assert nodes(spec) == count
