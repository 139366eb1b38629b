"""The bubble by formula is that of torch's schedules, action by action."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from bench.trainer.schedule import Action, idle
from torch.distributed.pipelining import schedules

from footplate_contracts.v1alpha1.parallelism import PipelineSchedule
from footplate_planning import bubble
from footplate_planning.topology import Topology

TORCHS = {
    PipelineSchedule.INTERLEAVED: schedules.ScheduleInterleaved1F1B,
    PipelineSchedule.INTERLEAVED_ZERO_BUBBLE: schedules.ScheduleInterleavedZeroBubble,
    PipelineSchedule.ZBV: schedules.ScheduleZBVZeroBubble,
}


def orders(topology: Topology, micro_batches: int) -> dict[int, list[Action]]:
    """What torch would run on each rank: of stages it asks only how they stand."""
    stages = [
        SimpleNamespace(
            stage_index=number,
            num_stages=topology.stages,
            group_size=topology.pipeline,
            group_rank=0,
            submod=None,
        )
        for number in topology.stages_of(0)
    ]
    schedule = TORCHS[topology.schedule](stages, micro_batches, loss_fn=lambda: None)
    return {
        rank: [
            Action(action.stage_index, action.computation_type.value, action.microbatch_index)
            for action in order
            if action is not None
        ]
        for rank, order in schedule.pipeline_order.items()
    }


@pytest.mark.parametrize("ranks", [2, 3, 4, 8])
@pytest.mark.parametrize(
    ("schedule", "rounds"),
    [
        pytest.param(PipelineSchedule.INTERLEAVED, 2, id="interleaved"),
        pytest.param(PipelineSchedule.INTERLEAVED, 3, id="interleaved-3"),
        pytest.param(PipelineSchedule.INTERLEAVED_ZERO_BUBBLE, 2, id="zero-bubble"),
        pytest.param(PipelineSchedule.INTERLEAVED_ZERO_BUBBLE, 3, id="zero-bubble-3"),
        pytest.param(PipelineSchedule.ZBV, 2, id="zbv"),
    ],
)
def test_the_bubble_is_that_of_torchs_order(schedule: PipelineSchedule, rounds: int, ranks: int) -> None:
    topology = Topology(pipeline=ranks, virtual_stages=rounds, schedule=schedule)
    for count in (*range(1, ranks + 1), 2 * ranks, 3 * ranks):
        assert idle(orders(topology, count), topology.stages) == bubble.idle_units(topology, count), count
