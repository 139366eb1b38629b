"""Rows of the operator."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Final

from bench.controlplane.rows import Row

from tests.support import operator_costs as costs

Cost = Callable[[costs.Machines], Awaitable[float]]


@cache
def _runner() -> asyncio.Runner:
    return asyncio.Runner()


@cache
def _gang(workers: int, ended: bool) -> costs.Machines:
    """A gang that trains, or of which nine of ten workers have `ended`; a decision leaves it as it was."""
    world = _runner().run(costs.gang(workers))
    if ended:
        _runner().run(costs.end_most(world))
    return world


def _of(cost: Cost, ended: bool = False) -> Callable[[int], float]:
    async def once(world: costs.Machines) -> float:
        return await cost(world)

    return lambda workers: _runner().run(once(_gang(workers, ended)))


ROWS: Final = (
    Row("operator: reconciliation with news", _of(costs.cost_of_reconciliation)),
    Row("operator: `desire` at rest", _of(costs.cost_of_desire)),
    Row("operator: `desire`, 90 % ended", _of(costs.cost_of_desire, ended=True), bar=(None, None, 0.1)),
    Row("operator: reconciliation that makes none, 90 % ended", _of(costs.cost_of_refused_pods, ended=True)),
    Row("operator: news of all Nodes", _of(costs.cost_of_news_of_nodes)),
)
