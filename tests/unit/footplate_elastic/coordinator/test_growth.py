"""The coordinator's cost grows with the number of agents, and with no power of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest

from tests.support import coordinator_costs as costs
from tests.support.growth import PER_DOUBLING, steepest_doubling


@pytest.fixture(autouse=True)
def _without_log() -> Iterator[None]:
    """A coordinator logs each arrival; pytest would keep the lines."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(
    "cost",
    [
        costs.cost_of_a_tick,
        costs.cost_of_a_tick_after_a_failed_rank,
        costs.cost_of_a_tick_after_a_loss,
        costs.cost_of_heartbeats,
        costs.cost_of_early_heartbeats,
        costs.cost_of_late_heartbeats,
        costs.cost_of_answers,
        costs.cost_of_joins,
        costs.cost_of_joins_after_a_failed_rank,
        costs.cost_of_arrivals,
        costs.cost_of_news,
    ],
    ids=lambda cost: str(cost.__name__).removeprefix("cost_of_"),
)
def test_a_cost_is_not_quadratic_in_agents(cost: Callable[[int], float]) -> None:
    assert steepest_doubling(cost) <= PER_DOUBLING
