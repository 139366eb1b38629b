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
from footplate_trainer.config import model_shape
from footplate_trainer.huggingface.initial import completed
from footplate_trainer.manifest import read_run
from footplate_trainer.metrics.flops import (
    Convention,
    attention_flops,
    flops_per_token,
    weight_flops,
)
from footplate_trainer.parallel import compatibility, memory
from footplate_trainer.parallel.memory import Batch, Estimate, Held
from footplate_trainer.parallel.topology import Topology, stage_layers
from footplate_trainer.shape import ModelShape

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


def plan(config: RunConfig, ranks: int, device: str) -> Plan:
    """`config` on `ranks` ranks of `device`, "cpu" or "cuda"; UserMistake for what cannot work."""
    compatibility.check(config, ranks)
    topology, shape = Topology.of(ranks, config.parallelism), model_shape(config)
    training = config.training
    count = -(-training.global_batch_size // (training.micro_batch_size * topology.data))
    batch = Batch(training.micro_batch_size, count)
    layers = stage_layers(shape, topology)
    tokens = training.global_batch_size * shape.context / (topology.data * topology.context)
    rows = []
    for pipeline in range(topology.pipeline):
        held = memory.held(shape, topology, pipeline)
        estimate = memory.estimate(
            shape,
            topology,
            pipeline,
            batch,
            training.optimizer,
            training.precision,
            device,
            training.recomputation,
        )
        full, causal = (
            tokens * _flops(shape, topology, held, convention)
            for convention in (Convention.FULL, Convention.CAUSAL)
        )
        numbers = [number for stage in topology.stages_of(pipeline) for number in layers[stage]]
        rows.append(PlannedRank(pipeline, numbers, held.all, held.trained, full, causal, estimate))
    return Plan(config, shape, topology, batch, device, rows)


def _flops(shape: ModelShape, topology: Topology, held: Held, convention: Convention) -> float:
    """For a token of its sequences; all ranks' sum is `flops_per_token`, norms that many hold left aside."""
    weights = weight_flops(shape, sum(held.blocks) + held.projection, held.adapters)
    attention = attention_flops(shape, shape.context, convention)
    return weights + attention * len(held.blocks) / shape.blocks / topology.tensor


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
        "flopsPerToken": {
            convention.value: flops_per_token(made.shape, made.shape.context, convention)
            for convention in Convention
        },
        "ranksByPipeline": [
            {
                "pipeline": rank.pipeline,
                "layers": rank.layers,
                "parameters": rank.parameters,
                "trainedParameters": rank.trained,
                "flopsPerStep": {"full": rank.flops, "causal": rank.flops_causal},
                "memoryBytes": {"peak": rank.memory.peak, **rank.memory.bytes},
            }
            for rank in made.ranks
        ],
    }


def as_text(made: Plan) -> str:
    """For a person."""
    topology, training = made.topology, made.config.training
    per_token = flops_per_token(made.shape, made.shape.context, Convention.FULL)
    unit, name = (GIB, "GiB") if made.ranks[0].memory.peak >= GIB else (MIB, "MiB")
    head = [
        f"run {made.config.run.name}: {_counted(made.shape)} on {topology.world_size:,} ranks",
        f"mesh: pipeline {topology.pipeline} x data {topology.data} x context {topology.context} x tensor "
        f"{topology.tensor}; sharding {topology.sharding}: {topology.shards} x {topology.copies} copies",
        f"step: {training.global_batch_size:,} sequences x {made.shape.context:,} tokens; "
        f"{made.batch.count} micro-batches of {made.batch.sequences} on each rank",
        f"FLOPs: {per_token:.4g} a token, {per_token * made.step_tokens:.4g} a step (full attention)",
        f"memory: estimated peak of {made.device} tensors, {name}",
        "",
    ]
    kinds = list(made.ranks[0].memory.bytes)
    titles = ["stage", "layers", "numbers", "FLOPs/step", *(kind.value for kind in kinds), "peak"]
    rows = [
        [
            str(rank.pipeline),
            _spans(rank.layers),
            f"{rank.parameters:,}",
            f"{rank.flops:.3g}",
            *(f"{rank.memory.bytes[kind] / unit:.2f}" for kind in kinds),
            f"{rank.memory.peak / unit:.2f}",
        ]
        for rank in made.ranks
    ]
    return "\n".join(head + _table([titles, *rows]))


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
