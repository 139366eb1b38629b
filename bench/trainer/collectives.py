"""Collectives, messages and bytes of one step, and the bubble: counted, and by formula (docs/parallelism.md).

    .venv/bin/python -m bench.trainer.collectives [NAME …]

Counted is what each rank really calls in its second step, for every layout of
the layout tests; collectives must be as many as torch's CommDebugMode sees. The
bubble is that of the order in which torch ran the stages. Exit code 1 when a
number is another than the formula's.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from bench.trainer import schedule
from bench.trainer.laid import laid
from torch import Tensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.utils._python_dispatch import TorchDispatchMode

from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.parallelism import PipelineSchedule
from footplate_planning import bubble
from footplate_planning.config import model_shape
from footplate_planning.plan import step_of
from footplate_planning.topology import Topology
from footplate_planning.traffic import CallTotals, CommunicationOp, estimate_traffic
from tests.support.layout_list import LAYOUTS, SGD, Layout
from tests.support.ranks import run_ranks
from tests.support.tiny import pack_tiny, tiny_config

CALLS: Final = {
    "_allgather_base_": CommunicationOp.ALL_GATHER,
    "_reduce_scatter_base_": CommunicationOp.REDUCE_SCATTER,
    "allreduce_": CommunicationOp.ALL_REDUCE,
    "send": CommunicationOp.SEND,
    "recv_": CommunicationOp.RECEIVE,
}
COUNTED: Final = tuple(
    layout
    for layout in LAYOUTS
    if "training.compile=true" not in layout.extra
    and not any("adapter" in setting for setting in layout.model)
)
"""A compiled block's collectives are torch.compile's own, and for adapters there is no formula."""

Loads = dict[CommunicationOp, CallTotals]


class Traffic(TorchDispatchMode):
    """Calls and bytes that go into each kind of them."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: Loads = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d":
            call = CALLS[func._schema.name.removeprefix("c10d::")]
            # all-gather and reduce-scatter: (output, input, …); the others: a list of what goes in
            source = args[1] if isinstance(args[0], Tensor) else args[0][0]
            self.loads[call] = self.loads.get(call, CallTotals(0, 0)) + CallTotals(1, source.nbytes)
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Counted:
    """What one rank did."""

    pipeline: int
    loads: Loads
    collectives: Counter[CommunicationOp] | None  # by CommDebugMode
    actions: list[schedule.Action]


def count(config: RunConfig) -> Counted:
    """The second step on this rank."""
    with laid(config) as here:
        here.step(1)
        with ExitStack() as watches:
            debug = None if _splits(config) else watches.enter_context(CommDebugMode())
            seen, actions = watches.enter_context(Traffic()), watches.enter_context(schedule.watched())
            here.step(2)
        pipeline = here.model.grid.coordinates.pipeline
    return Counted(pipeline, seen.loads, None if debug is None else _collectives(debug), actions)


def _splits(config: RunConfig) -> bool:
    """Whether the backward pass is taken apart, which the hooks of CommDebugMode do not survive."""
    schedules = (PipelineSchedule.INTERLEAVED_ZERO_BUBBLE, PipelineSchedule.ZBV)
    return config.parallelism.pipeline > 1 and config.parallelism.pipeline_schedule in schedules


def _collectives(debug: CommDebugMode) -> Counter[CommunicationOp]:
    found: Counter[CommunicationOp] = Counter()
    for operation, number in debug.get_comm_counts().items():
        found[CALLS[str(operation).split(".")[-1]]] += number
    return found


def foreseen(config: RunConfig, ranks: int, pipeline: int) -> Loads:
    """By the formulas, whatever the axis."""
    topology = Topology.of(ranks, config.parallelism)
    loads: Loads = {}
    step = step_of(config, topology, "cpu")
    for (_, call), load in estimate_traffic(model_shape(config), topology, pipeline, step).items():
        loads[call] = loads.get(call, CallTotals(0, 0)) + load
    return loads


def configured(layout: Layout, shards: Path, folder: Path) -> RunConfig:
    """As the layout tests train it."""
    base = ("model.layers=4", "training.microBatchSize=1", *SGD)
    return tiny_config(shards, folder, (*base, *layout.overrides))


@dataclass(frozen=True)
class Row:
    """One number, counted and by formula."""

    what: str
    counted: int
    formula: int


def rows(layout: Layout, shards: Path, folder: Path) -> Iterator[Row]:
    """All numbers of `layout` on real ranks."""
    config = configured(layout, shards, folder)
    answers: list[Counted] = run_ranks(count, layout.ranks, config)
    yield from _loads(config, layout.ranks, answers)
    topology = Topology.of(layout.ranks, config.parallelism)
    if topology.pipeline > 1:
        orders = {answer.pipeline: answer.actions for answer in answers}
        micro_batches = step_of(config, topology, "cpu").batch.count
        waited = schedule.idle(orders, topology.stages)
        yield Row("idle units", waited, bubble.idle_units(topology, micro_batches))


def _loads(config: RunConfig, ranks: int, answers: list[Counted]) -> Iterator[Row]:
    """A row for what the ranks of one pipeline coordinate agree on, one for each that does not."""
    for pipeline in sorted({answer.pipeline for answer in answers}):
        formula = foreseen(config, ranks, pipeline)
        alike = [answer for answer in answers if answer.pipeline == pipeline]
        for call in CommunicationOp:
            should = formula.get(call, CallTotals(0, 0))
            for load in {answer.loads.get(call, CallTotals(0, 0)) for answer in alike} - {
                CallTotals(0, 0)
            } or {CallTotals(0, 0)}:
                if load.calls or should.calls:
                    yield Row(f"{pipeline} {call} calls", load.calls, should.calls)
                    yield Row(f"{pipeline} {call} bytes", load.bytes, should.bytes)
        debugged = [answer.collectives for answer in alike if answer.collectives is not None]
        for call in (CommunicationOp.ALL_GATHER, CommunicationOp.REDUCE_SCATTER, CommunicationOp.ALL_REDUCE):
            for number in {collectives[call] for collectives in debugged}:
                should = formula.get(call, CallTotals(0, 0))
                yield Row(f"{pipeline} {call} calls by CommDebugMode", number, should.calls)


def main(names: list[str]) -> int:
    """Print the table."""
    good = True
    print("| layout | stage and what | counted | formula | |\n|---|---|--:|--:|---|", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shards = pack_tiny(folder)
        for layout in COUNTED:
            if names and layout.name not in names:
                continue
            for row in rows(layout, shards, folder / layout.name):
                equal = row.counted == row.formula
                good &= equal
                numbers = f"{row.counted:,} | {row.formula:,} | {'equal' if equal else 'OTHER'}"
                print(f"| {layout.name} | {row.what} | {numbers} |", flush=True)
    return int(not good)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main(sys.argv[1:]))
