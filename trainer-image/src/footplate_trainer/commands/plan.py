"""`footplate-trainer plan`: mesh, memory, traffic and FLOPs on any number of ranks. It imports no torch."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from footplate_contracts.names import ExitCode
from footplate_contracts.quantity import parse_quantity
from footplate_contracts.runconfig import RunConfig, World
from footplate_contracts.stages import STAGES
from footplate_planning.bubble import bubble_fraction
from footplate_planning.config import model_shape, with_score_head
from footplate_planning.flops import Convention
from footplate_planning.plan import Plan, build_plan
from footplate_planning.references import holds_reference, reference_model
from footplate_planning.rollout import PlannedRollout
from footplate_planning.shape import ModelShape
from footplate_planning.traffic import Axis, sent_bytes
from footplate_trainer.frozen.scoring import find_reward, find_value, scoring_config, trained_config
from footplate_trainer.frozen.source import find_model, frozen_config, reference_field
from footplate_trainer.huggingface.initial import complete_config
from footplate_trainer.manifest.run_file import read_run
from footplate_trainer.stages.layout import require_layout

GIB: Final = 2**30
MIB: Final = 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `plan`."""
    parser.add_argument("run", type=Path, metavar="RUN.yaml", help="a TrainingRun, YAML or JSON")
    parser.add_argument("--ranks", type=int, required=True, metavar="N", help="number of ranks to plan for")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="device type (%(default)s)")
    parser.add_argument(
        "--memory",
        type=_bytes,
        metavar="QUANTITY",
        help="memory of a rank, such as 80Gi; a rollout's key-value cache uses what the model leaves",
    )
    parser.add_argument("-o", dest="output", choices=["text", "json"], default="text", help="output format")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="override a field of spec"
    )


def run(arguments: argparse.Namespace) -> ExitCode:
    """Print the plan; a run that cannot work is refused with the numbers."""
    config = complete_config(read_run(arguments.run, arguments.set).config(World()))
    require_layout(config, arguments.ranks)
    ranks = arguments.ranks
    made = build_plan(
        config,
        ranks,
        arguments.device,
        frozen_shapes(config, ranks),
        value_model_shape(config, ranks),
        arguments.memory,
    )
    print(json.dumps(as_json(made), indent=1) if arguments.output == "json" else as_text(made))
    return ExitCode.SUCCESS


def _bytes(text: str) -> int:
    """Parse a quantity as Kubernetes writes it."""
    found = parse_quantity(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a quantity of bytes, such as 80Gi or 512Mi")
    return int(found)


def frozen_shapes(config: RunConfig, ranks: int) -> list[ModelShape]:
    """Return the models that ranks of `config` hold and do not train; UserMistake if one does not suit it."""
    reference = reference_model(config)
    shapes = []
    if reference is not None and holds_reference(config):
        if reference.uri is None:
            shapes.append(model_shape(config))
        else:
            found = find_model(reference.uri, reference_field(config))
            shapes.append(model_shape(frozen_config(found, config, ranks)))
    if (reward := find_reward(config)) is not None:
        shapes.append(model_shape(scoring_config(reward.found, config, ranks)))
    return shapes


def value_model_shape(config: RunConfig, ranks: int) -> ModelShape | None:
    """Return the value model that is trained beside the policy, if any; UserMistake if it does not suit."""
    if not STAGES[config.stage].has_value_model:
        return None
    found = find_value(config)
    if found is None:
        return replace(with_score_head(model_shape(config)), adapter=None)
    return model_shape(trained_config(found, config, ranks))


def as_json(made: Plan) -> dict[str, Any]:
    """Return the plan as plain numbers: bytes, FLOPs, counts."""
    topology = made.topology
    return {
        "run": made.config.run.name,
        "ranks": topology.world_size,
        "device": made.device,
        "parameters": made.shape.parameters + made.shape.adapter_parameters,
        "trainedParameters": made.shape.trained_parameters,
        **({} if made.value is None else {"valueParameters": made.value.parameters}),
        "frozenParameters": [shape.parameters + shape.adapter_parameters for shape in made.frozen],
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
        "bubble": bubble_fraction(topology, made.batch.count),
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
        **({"rollout": _rollout_json(made.rollout)} if made.rollout else {}),
    }


def _rollout_json(rollout: PlannedRollout) -> dict[str, Any]:
    topology = rollout.topology
    return {
        "mesh": {"pipeline": topology.pipeline, "data": topology.data, "tensor": topology.tensor},
        "answers": rollout.answers,
        "cacheTokens": rollout.cache_tokens,
        **({"short": rollout.short} if rollout.short else {}),
        "ranksByPipeline": [
            {"pipeline": stage, "weightBytes": weights, "cacheBytes": cache}
            for stage, (weights, cache) in enumerate(zip(rollout.weights, rollout.cache, strict=True))
        ],
    }


def as_text(made: Plan) -> str:
    """Format the plan for a person."""
    topology = made.topology
    unit, name = (GIB, "GiB") if made.ranks[0].memory.peak >= GIB else (MIB, "MiB")
    head = [
        f"run {made.config.run.name}: {_counted(made.shape)} on {topology.world_size:,} ranks",
        f"mesh: pipeline {topology.pipeline} x data {topology.data} x context {topology.context} x tensor "
        f"{topology.tensor}; sharding {topology.sharding}: {topology.shards} x {topology.copies} copies",
        *(_step_lines(made) if made.trains else ["step: a rollout; nothing is trained"]),
        f"memory: estimated peak of {made.device} tensors, {name}; sent: a step's bytes by axis, {name}",
    ]
    for shape in made.frozen:
        of = "reward model" if shape.labels else "reference"
        head.insert(1, f"beside it: {_counted(shape)} of the {of}, evaluated but not trained")
    if made.value is not None:
        head.insert(1, f"beside it: {_counted(made.value)} of the value model, trained with it")
    if topology.pipeline > 1 and made.trains:
        head.append(
            f"bubble: {bubble_fraction(topology, made.batch.count):.1%} of a step, if all stages and "
            "messages take equally long"
        )
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
            *(f"{sent_bytes(rank.traffic, axis) / unit:.2f}" for axis in axes),
        ]
        for rank in made.ranks
    ]
    lines = [*head, "", *_table([titles, *rows])]
    if made.rollout is not None:
        lines += ["", *_rollout_lines(made.rollout, unit, name, made.trains)]
    return "\n".join(lines)


def _step_lines(made: Plan) -> list[str]:
    """Return the lines about a step that trains."""
    per_token = made.flops_per_token(Convention.FULL)
    return [
        f"step: {made.config.training.global_batch_size:,} sequences x {made.shape.context:,} tokens; "
        f"{made.batch.count} micro-batches of {made.batch.sequences} on each rank",
        f"FLOPs: {per_token:.4g} a token, {per_token * made.step_tokens:.4g} a step (full attention)",
    ]


def _rollout_lines(rollout: PlannedRollout, unit: int, name: str, trains: bool) -> list[str]:
    beside = "parameters and optimizer" if trains else "parameters"
    topology = rollout.topology
    titles = ["stage", "weights", "keys and values"]
    rows = [
        [str(stage), f"{weights / unit:.2f}", f"{cache / unit:.2f}"]
        for stage, (weights, cache) in enumerate(zip(rollout.weights, rollout.cache, strict=True))
    ]
    return [
        f"rollout: {topology.data} copies of pipeline {topology.pipeline} x tensor {topology.tensor}, "
        f"each with up to {rollout.answers:,} answers and the keys of {rollout.cache_tokens:,} tokens",
        f"memory: on each rank while it generates, beside {beside}, {name}",
        "",
        *_table([titles, *rows]),
        *([f"too little memory: {rollout.short}"] if rollout.short else []),
    ]


def _counted(shape: ModelShape) -> str:
    if shape.adapter is None:
        return f"{shape.parameters:,} parameters"
    return f"{shape.parameters:,} parameters, frozen, and {shape.adapter_parameters:,} of adapters"


def _spans(numbers: Sequence[int]) -> str:
    """Format runs of numbers: [0, 1, 2, 6, 7] -> "0-2 6-7"."""
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
