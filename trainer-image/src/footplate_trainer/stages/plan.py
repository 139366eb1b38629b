"""`footplate-trainer plan`: what a run would be on any number of ranks, without starting one.

Ranks that differ in data, context and tensor coordinate only are alike, so a
plan has a row for each place in the pipeline, however many ranks there are. It
imports no torch.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from footplate_contracts.names import ExitCode
from footplate_contracts.runconfig import RunConfig, World
from footplate_contracts.v1alpha1.training import Offload
from footplate_planning import memory
from footplate_planning.bubble import bubble
from footplate_planning.config import model_shape
from footplate_planning.flops import Convention, block_flops, flops_per_token, head_flops
from footplate_planning.memory import Batch, Estimate
from footplate_planning.shape import ModelShape
from footplate_planning.topology import Topology, stage_layers
from footplate_planning.traffic import Axis, Step, Traffic, sent, traffic
from footplate_trainer.data.spans import decoder_length
from footplate_trainer.huggingface.initial import completed
from footplate_trainer.manifest import read_run
from footplate_trainer.stages.layout import require_layout

GIB: Final = 2**30
MIB: Final = 2**20


@dataclass(frozen=True)
class PlannedRank:
    """What each rank with one pipeline coordinate has to hold and to do."""

    pipeline: int
    layers: list[int]
    parameters: int  # of its stages, its tensor cut; before data parallelism shards them
    trained: int  # of these
    flops: float  # a step, full attention
    flops_causal: float
    memory: Estimate
    traffic: Traffic  # a step's


@dataclass(frozen=True)
class Plan:
    """A run on `topology`."""

    config: RunConfig
    shape: ModelShape
    topology: Topology
    batch: Batch
    device: str
    ranks: list[PlannedRank]

    @property
    def step_tokens(self) -> int:
        """Places in a global batch."""
        return self.config.training.global_batch_size * self.shape.context

    def flops_per_token(self, convention: Convention) -> float:
        """Forward and backward, for each of `step_tokens`."""
        return flops_per_token(self.shape, self.shape.context, convention, decoder_length(self.config))


def plan(config: RunConfig, ranks: int, device: str) -> Plan:
    """`config` on `ranks` ranks of `device`, "cpu" or "cuda"; UserMistake for what cannot work."""
    require_layout(config, ranks)
    topology, shape = Topology.of(ranks, config.parallelism), model_shape(config)
    training, step = config.training, step_of(config, topology, device)
    layers = stage_layers(shape, topology)
    sequences = training.global_batch_size / topology.data
    rows = []
    for pipeline in range(topology.pipeline):
        held = memory.held(shape, topology, pipeline)
        estimate = memory.estimate(
            shape,
            topology,
            pipeline,
            step.batch,
            training.optimizer,
            training.precision,
            device,
            training.recomputation,
        )
        if config.parallelism.offload is Offload.CPU and device != "cpu":
            estimate = estimate.offloaded()
        stages = topology.stages_of(pipeline)
        numbers = [number for stage in stages for number in layers[stage]]
        full, causal = (
            sequences * _flops(shape, topology, step, numbers, topology.stages - 1 in stages, convention)
            for convention in (Convention.FULL, Convention.CAUSAL)
        )
        moved = traffic(shape, topology, pipeline, step)
        rows.append(PlannedRank(pipeline, numbers, held.all, held.trained, full, causal, estimate, moved))
    return Plan(config, shape, topology, step.batch, device, rows)


def step_of(config: RunConfig, topology: Topology, device: str) -> Step:
    """What of `config` decides a rank's step on `topology`."""
    training = config.training
    count = -(-training.global_batch_size // (training.micro_batch_size * topology.data))
    return Step(
        Batch(training.micro_batch_size, count),
        training.precision,
        training.recomputation,
        decoder_length(config),
        device,
    )


def _flops(
    shape: ModelShape,
    topology: Topology,
    step: Step,
    numbers: Sequence[int],
    is_last: bool,
    convention: Convention,
) -> float:
    """Of these blocks for one sequence on each of the ranks that share it."""
    length, behind = shape.context, step.decoder_length
    blocks = sum(block_flops(shape, number, length, convention, behind) for number in numbers)
    head = head_flops(shape, length, behind) if is_last else 0.0
    return (blocks + head) / (topology.context * topology.tensor)


# -- the command -------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `plan`."""
    parser.add_argument("run", type=Path, metavar="RUN.yaml", help="a TrainingRun, YAML or JSON")
    parser.add_argument("--ranks", type=int, required=True, metavar="N", help="how many ranks there would be")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="of what (%(default)s)")
    parser.add_argument("-o", dest="output", choices=["text", "json"], default="text", help="how to print it")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="override a field of spec"
    )


def run(arguments: argparse.Namespace) -> ExitCode:
    """Print the plan; a run that cannot work is refused with the numbers."""
    config = completed(read_run(arguments.run, arguments.set).config(World()))
    made = plan(config, arguments.ranks, arguments.device)
    print(json.dumps(as_json(made), indent=1) if arguments.output == "json" else as_text(made))
    return ExitCode.SUCCESS


def as_json(made: Plan) -> dict[str, Any]:
    """Plain numbers: bytes, FLOPs, counts."""
    topology = made.topology
    return {
        "run": made.config.run.name,
        "ranks": topology.world_size,
        "device": made.device,
        "parameters": made.shape.parameters + made.shape.adapter_parameters,
        "trainedParameters": made.shape.trained_parameters,
        "mesh": {
            "pipeline": topology.pipeline,
            "data": topology.data,
            "context": topology.context,
            "tensor": topology.tensor,
            "shards": topology.shards,
            "copies": topology.copies,
        },
        "microBatches": made.batch.count,
        "stepTokens": made.step_tokens,
        "flopsPerToken": {convention.value: made.flops_per_token(convention) for convention in Convention},
        "bubble": bubble(topology, made.batch.count),
        "ranksByPipeline": [
            {
                "pipeline": rank.pipeline,
                "layers": rank.layers,
                "parameters": rank.parameters,
                "trainedParameters": rank.trained,
                "flopsPerStep": {"full": rank.flops, "causal": rank.flops_causal},
                "memoryBytes": {"peak": rank.memory.peak, **rank.memory.bytes},
                "trafficPerStep": [
                    {"axis": axis, "call": call, "calls": load.calls, "bytes": load.bytes}
                    for (axis, call), load in rank.traffic.items()
                ],
            }
            for rank in made.ranks
        ],
    }


def as_text(made: Plan) -> str:
    """For a person."""
    topology, training = made.topology, made.config.training
    per_token = made.flops_per_token(Convention.FULL)
    unit, name = (GIB, "GiB") if made.ranks[0].memory.peak >= GIB else (MIB, "MiB")
    head = [
        f"run {made.config.run.name}: {_counted(made.shape)} on {topology.world_size:,} ranks",
        f"mesh: pipeline {topology.pipeline} x data {topology.data} x context {topology.context} x tensor "
        f"{topology.tensor}; sharding {topology.sharding}: {topology.shards} x {topology.copies} copies",
        f"step: {training.global_batch_size:,} sequences x {made.shape.context:,} tokens; "
        f"{made.batch.count} micro-batches of {made.batch.sequences} on each rank",
        f"FLOPs: {per_token:.4g} a token, {per_token * made.step_tokens:.4g} a step (full attention)",
        f"memory: estimated peak of {made.device} tensors, {name}; sent: a step's bytes by axis, {name}",
    ]
    if topology.pipeline > 1:
        head.append(f"bubble: {bubble(topology, made.batch.count):.1%} of a step, stages and messages alike")
    kinds = list(made.ranks[0].memory.bytes)
    busy = {axis for rank in made.ranks for axis, _ in rank.traffic} - {Axis.WORLD}  # 40 bytes
    axes = [axis for axis in Axis if axis in busy]
    titles = ["stage", "layers", "numbers", "FLOPs/step", *(kind.value for kind in kinds), "peak"]
    titles += [f"sent: {axis.value}" if axis is axes[0] else axis.value for axis in axes]
    rows = [
        [
            str(rank.pipeline),
            _spans(rank.layers),
            f"{rank.parameters:,}",
            f"{rank.flops:.3g}",
            *(f"{rank.memory.bytes[kind] / unit:.2f}" for kind in kinds),
            f"{rank.memory.peak / unit:.2f}",
            *(f"{sent(rank.traffic, axis) / unit:.2f}" for axis in axes),
        ]
        for rank in made.ranks
    ]
    return "\n".join([*head, "", *_table([titles, *rows])])


def _counted(shape: ModelShape) -> str:
    if shape.adapter is None:
        return f"{shape.parameters:,} parameters"
    return f"{shape.parameters:,} parameters, frozen, and {shape.adapter_parameters:,} of adapters"


def _spans(numbers: Sequence[int]) -> str:
    """[0, 1, 2, 6, 7] -> "0-2 6-7"."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][-1] + 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    return " ".join(f"{span[0]}-{span[-1]}" if len(span) > 1 else str(span[0]) for span in spans)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
