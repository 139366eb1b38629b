"""Runs micro-batches through a pipeline's stages, in one of torch's schedules.

Only activations travel between ranks: each loads the same tokens and labels and
passes them to its stages by keyword. Shapes are stated and not inferred by a
trial run, which would read uninitialised memory. The loss of a micro-batch is
divided by a global count before its backward pass, so nothing is scaled
afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining.schedules import (
    PipelineScheduleMulti,
    PipelineScheduleSingle,
    Schedule1F1B,
    ScheduleGPipe,
    ScheduleInterleaved1F1B,
    ScheduleInterleavedZeroBubble,
    ScheduleZBVZeroBubble,
    _PipelineScheduleRuntime,
)

from footplate_contracts.v1alpha1.parallelism import PipelineSchedule
from footplate_trainer.model.head_chunks import backward_passes
from footplate_trainer.parallel.data_parallel import reshard
from footplate_trainer.parallel.mesh import Grid
from footplate_trainer.parallel.stage_module import Criterion, MicroBatchInputs, StageModule, StageModules

_SINGLE: dict[PipelineSchedule, type[PipelineScheduleSingle]] = {
    PipelineSchedule.GPIPE: ScheduleGPipe,
    PipelineSchedule.ONE_FORWARD_ONE_BACKWARD: Schedule1F1B,
}
_MULTI: dict[PipelineSchedule, Callable[..., PipelineScheduleMulti]] = {
    PipelineSchedule.INTERLEAVED: ScheduleInterleaved1F1B,
    PipelineSchedule.INTERLEAVED_ZERO_BUBBLE: ScheduleInterleavedZeroBubble,
    PipelineSchedule.ZBV: ScheduleZBVZeroBubble,
}
_Schedule = PipelineScheduleSingle | PipelineScheduleMulti
_ZERO_BUBBLE = (PipelineSchedule.INTERLEAVED_ZERO_BUBBLE, PipelineSchedule.ZBV)
_WAY_BACK = frozenset(("B", "I", "W", "SEND_B", "RECV_B", "WAIT_SEND_B", "REDUCE_GRAD", "WAIT_REDUCE_GRAD"))


class Pipeline:
    """This rank's stages of a pipeline."""

    def __init__(self, module: StageModules, grid: Grid, device: torch.device, dtype: torch.dtype) -> None:
        """Store the stages; the schedule is built at the first step. `dtype` is that of activations."""
        self._module = module
        self._grid = grid
        self._device = device
        self._dtype = dtype
        self._divisor = torch.ones((), device=device)
        self._schedule: _Schedule | None = None

    def accumulate(
        self, micro_batches: Sequence[MicroBatchInputs], criterion: Criterion, divisor: Callable[[], Tensor]
    ) -> Tensor:
        """Compute gradients of summed losses / `divisor()`; return this rank's part of the loss, fp64."""
        self._divisor = divisor()
        losses: list[Tensor] = []
        with backward_passes(2 if self._grid.topology.schedule in _ZERO_BUBBLE else 1):
            self._ready(micro_batches).step(**self._arguments(micro_batches, criterion, losses))
        return self._sum(losses)

    def evaluate(self, micro_batches: Sequence[MicroBatchInputs], criterion: Criterion) -> Tensor:
        """Return this rank's part of the sum of losses, without gradients: fp64 scalar."""
        self._divisor = torch.ones((), device=self._device)
        losses: list[Tensor] = []
        schedule = self._ready(micro_batches)
        with _forward_alone(schedule):
            schedule.eval(**self._arguments(micro_batches, criterion, losses))
        for stage in self._module.stages:
            reshard(stage)
        return self._sum(losses)

    def _ready(self, micro_batches: Sequence[MicroBatchInputs]) -> _Schedule:
        if self._schedule is None:  # all steps have equally many micro-batches of one shape
            self._schedule = self._build(len(micro_batches), micro_batches[0])
        return self._schedule

    @staticmethod
    def _arguments(
        micro_batches: Sequence[MicroBatchInputs], criterion: Criterion, losses: list[Tensor]
    ) -> dict[str, Any]:
        return {
            "arg_mbs": [()] * len(micro_batches),
            "kwarg_mbs": [
                {"inputs": micro_batch.inputs, "targets": micro_batch.targets, "criterion": criterion}
                for micro_batch in micro_batches
            ],
            "target_mbs": [micro_batch.targets for micro_batch in micro_batches],
            "losses": losses,
            "return_outputs": False,
        }

    def _sum(self, losses: list[Tensor]) -> Tensor:
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        for loss in losses:
            total += loss.detach()
        return total

    def _divided(self, loss: Tensor, _: Tensor) -> Tensor:
        return loss / self._divisor

    def _build(self, micro_batches: int, micro_batch: MicroBatchInputs) -> _Schedule:
        topology = self._grid.topology
        numbers = topology.stages_of(self._grid.coordinates.pipeline)
        parts = zip(numbers, self._module.stages, strict=True)
        stages = [self._stage(number, stage, micro_batch) for number, stage in parts]
        single = _SINGLE.get(topology.schedule)
        if single is not None:
            return single(stages[0], micro_batches, loss_fn=self._divided, scale_grads=False)
        multi = _MULTI[topology.schedule]
        return multi(
            list(stages),
            micro_batches,
            loss_fn=self._divided,
            scale_grads=False,
            max_active_stages=len(stages),  # or a fourth would be gathered again for each micro-batch
        )

    def _stage(self, number: int, stage: StageModule, micro_batch: MicroBatchInputs) -> PipelineStage:
        topology = self._grid.topology
        states = self._states(micro_batch, stage.network.shape.hidden)
        loss = torch.empty((), dtype=torch.float64, device="meta", requires_grad=True)
        return PipelineStage(
            stage,
            number,
            topology.stages,
            self._device,
            input_args=() if number == 0 else states,
            output_args=(loss,) if number == topology.stages - 1 else states,
            group=self._grid.pipeline_group,
        )

    def _states(self, micro_batch: MicroBatchInputs, hidden: int) -> tuple[Tensor, ...]:
        """Return meta tensors of the states between stages: one for each input that the network reads."""
        read = (micro_batch.inputs.tokens, micro_batch.inputs.decoder_tokens)
        ranks = self._grid.topology.tensor
        shapes = [(len(tokens), tokens.shape[1] // ranks) for tokens in read if tokens is not None]
        return tuple(
            torch.empty(*shape, hidden, dtype=self._dtype, device="meta", requires_grad=True)
            for shape in shapes
        )


@contextmanager
def _forward_alone(schedule: _Schedule) -> Iterator[None]:
    """Remove backward actions from a schedule: torch's V schedule sends gradients even without a backward."""
    if not isinstance(schedule, _PipelineScheduleRuntime):
        yield
        return
    whole = schedule.pipeline_order_with_comms
    schedule.pipeline_order_with_comms = {
        rank: [action for action in order if action.computation_type.value not in _WAY_BACK]
        for rank, order in whole.items()
    }
    try:
        yield
    finally:
        schedule.pipeline_order_with_comms = whole
