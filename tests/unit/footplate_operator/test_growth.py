"""CPU time of one decision by the number of workers: it grows with them, and not with their square."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable, Iterator

import pytest

from tests.support.growth import PER_DOUBLING, SIZES, steepest_doubling
from tests.support.operator_costs import (
    Machines,
    cost_of_desire,
    cost_of_news_of_nodes,
    cost_of_reconciliation,
    cost_of_refused_pods,
    end_most,
    gang,
)


@pytest.fixture(autouse=True)
def _without_log() -> Iterator[None]:
    """The operator logs each pod; pytest would keep the lines."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(autouse=True)
def _without_old_objects() -> Iterator[None]:
    """The collector would look again and again at gangs that stay."""
    yield
    gc.unfreeze()


def test_the_time_of_a_decision_is_not_quadratic_in_workers() -> None:
    steepest: dict[str, float] = {}
    with asyncio.Runner() as runner:

        def measure(what: str, cost: Callable[[Machines], Awaitable[float]]) -> None:
            async def once(size: int) -> float:
                return await cost(worlds[size])

            gc.collect()  # what is left of the steps before would lie between what is measured
            gc.freeze()
            steepest[what] = steepest_doubling(lambda size: runner.run(once(size)))

        worlds = {size: runner.run(gang(size)) for size in SIZES}
        measure("at rest", cost_of_reconciliation)
        measure("at rest, desire", cost_of_desire)
        measure("news of all Nodes", cost_of_news_of_nodes)
        for world in worlds.values():
            runner.run(end_most(world))
        measure("most have ended, desire", cost_of_desire)
        measure("most have ended, none can be made", cost_of_refused_pods)
        for world in worlds.values():
            runner.run(cost_of_reconciliation(world))
        measure("most are substituted", cost_of_reconciliation)
    assert {what: factor for what, factor in steepest.items() if factor > PER_DOUBLING} == {}, steepest
