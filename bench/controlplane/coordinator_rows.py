"""Rows of the coordinator."""

from __future__ import annotations

from typing import Final

from bench.controlplane.rows import Row

from tests.support import coordinator_costs as costs


def _one(agents: int) -> int:
    return agents


ROWS: Final = (
    Row("coordinator: one heartbeat", costs.cost_of_heartbeats, share=_one),
    Row("coordinator: one answer", costs.cost_of_answers, share=_one),
    Row("coordinator: tick while all train", costs.cost_of_a_tick),
    Row(
        "coordinator: tick after a failed rank",
        costs.cost_of_a_tick_after_a_failed_rank,
        bar=(0.002, None, 0.010),
    ),
    Row("coordinator: tick that finds four of ten lost", costs.cost_of_a_tick_after_a_loss),
    Row("coordinator: news to all long-polls", costs.cost_of_news, bar=(None, None, 0.3)),
    Row("coordinator: all joined at once, sealed", costs.cost_of_joins),
)
