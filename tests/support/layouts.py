"""Layouts of a tiny run, and how far each is from the same run in one process."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from footplate_contracts.runconfig import RunConfig
from footplate_trainer.loop import Flags, Stepper, StepResult
from footplate_trainer.optim.optimizer import build_optimizer
from footplate_trainer.parallel.apply import build_model
from footplate_trainer.parallel.part import Parts
from footplate_trainer.parallel.pieces import piece_of
from footplate_trainer.parallel.world import open_world, read_environment
from footplate_trainer.stages.inputs import open_loader, open_shards
from footplate_trainer.stages.losses import objective_of
from tests.support.ranks import run_ranks
from tests.support.tiny import tiny_config

STEPS = 5
SGD = ("training.optimizer={name: sgd, learningRate: 0.3, momentum: 0.9}",)
ADAMW = ("training.optimizer={name: adamw, learningRate: 0.01}",)
OPTIMIZERS: Mapping[str, tuple[str, ...]] = {"sgd": SGD, "adamw": ADAMW}

LLAMA: tuple[str, ...] = ()
TIED = ("model.tiedEmbeddings=true",)
MULTI_QUERY = ("model.keyValueHeads=1",)
WINDOW = ("model.family=mistral", "model.attention.slidingWindow=9")
GPT2 = ("model.family=gpt2", "model.keyValueHeads=null")
BERT = ("model.family=bert", "model.keyValueHeads=null", "data.masking={name: mlm}")
T5 = ("model.family=t5", "model.keyValueHeads=null", "data.masking={name: span}")
DROPOUT = ("model.dropout={hidden: 0.1, embedding: 0.1}",)
DROP_ALL = ("model.dropout={hidden: 0.1, embedding: 0.1, attention: 0.1}",)


@dataclass(frozen=True)
class Layout:
    """A model on so many ranks, with fields of `parallelism` and further overrides."""

    name: str
    ranks: int
    parallelism: Mapping[str, object]
    model: tuple[str, ...] = LLAMA
    extra: tuple[str, ...] = ()  # what must not change the numbers

    @property
    def overrides(self) -> tuple[str, ...]:
        """For `tiny_config`."""
        fields = tuple(f"parallelism.{field}={value}" for field, value in self.parallelism.items())
        return (*self.model, *fields, *self.extra)


def _pipeline(schedule: str, ranks: int = 2, stages: int = 1, **more: object) -> dict[str, object]:
    return {"pipeline": ranks, "virtualStages": stages, "pipelineSchedule": schedule, **more}


ZBV = _pipeline("ZBV", stages=2)
CUBE = _pipeline("1F1B", tensor=2)
LAYOUTS: tuple[Layout, ...] = (
    Layout("one", 1, {}),
    Layout("full", 2, {}),
    Layout("none", 2, {"sharding": "none"}),
    Layout("optimizer", 2, {"sharding": "optimizer"}),
    Layout("hybrid", 4, {"sharding": "hybrid", "replicas": 2}),
    Layout("tensor", 2, {"tensor": 2}),
    Layout("tensor-4", 4, {"tensor": 4}),
    Layout("context", 2, {"context": 2}),
    Layout("gpipe", 2, _pipeline("GPipe")),
    Layout("1f1b", 2, _pipeline("1F1B")),
    Layout("interleaved", 2, _pipeline("Interleaved1F1B", stages=2)),
    Layout("interleaved-zero-bubble", 2, _pipeline("InterleavedZeroBubble", stages=2)),
    Layout("zbv", 2, ZBV),
    Layout("tensor-full", 4, {"tensor": 2}),
    Layout("tensor-none", 4, {"tensor": 2, "sharding": "none"}),
    Layout("tensor-optimizer", 4, {"tensor": 2, "sharding": "optimizer"}),
    Layout("tensor-hybrid", 8, {"tensor": 2, "sharding": "hybrid", "replicas": 2}),
    Layout("tensor-context", 4, {"tensor": 2, "context": 2}),
    Layout("context-full", 4, {"context": 2}),
    Layout("context-none", 4, {"context": 2, "sharding": "none"}),
    Layout("context-pipeline", 4, _pipeline("1F1B", context=2)),
    Layout("pipeline-full", 4, _pipeline("1F1B")),
    Layout("pipeline-none", 4, _pipeline("1F1B", sharding="none")),
    Layout("pipeline-optimizer", 4, _pipeline("1F1B", sharding="optimizer")),
    Layout("pipeline-hybrid", 8, _pipeline("1F1B", sharding="hybrid", replicas=2)),
    Layout("pipeline-4", 4, _pipeline("1F1B", ranks=4)),
    Layout("pipeline-tensor-full", 8, CUBE),
    Layout("pipeline-tensor-context", 8, {**CUBE, "context": 2}),
    Layout("zbv-tensor-full", 8, {**ZBV, "tensor": 2}),
    Layout("tied-tensor", 2, {"tensor": 2}, TIED),
    Layout("tied-pipeline", 2, _pipeline("1F1B"), TIED),
    Layout("tied-zbv-tensor-full", 8, {**ZBV, "tensor": 2}, TIED),
    Layout("multi-query-tensor-4", 4, {"tensor": 4}, MULTI_QUERY),
    Layout("multi-query-cube", 8, CUBE, MULTI_QUERY),
    Layout("window-context", 2, {"context": 2}, WINDOW),
    Layout("gpt2-cube", 8, CUBE, GPT2),
    Layout("gpt2-zbv-tensor", 4, {**ZBV, "tensor": 2}, GPT2),
    Layout("bert-cube", 8, CUBE, BERT),
    Layout("bert-context", 2, {"context": 2}, BERT),
    Layout("t5-tensor", 2, {"tensor": 2}, T5),
    Layout("t5-cube", 8, CUBE, T5),
    Layout("t5-interleaved", 2, _pipeline("Interleaved1F1B", stages=2), T5),
    Layout("gpt2-dropout-cube", 8, CUBE, (*GPT2, *DROP_ALL)),
    Layout("t5-dropout-tensor-full", 4, {"tensor": 2}, (*T5, *DROP_ALL)),
    Layout("dropout-tensor-context", 4, {"tensor": 2, "context": 2}, DROPOUT),
    Layout("recompute-full", 4, CUBE, extra=("training.recomputation=full",)),
    Layout("recompute-selective", 4, {"tensor": 2}, extra=("training.recomputation=selective",)),
    Layout("recompute-context", 2, {"context": 2}, extra=("training.recomputation=full",)),
)


@dataclass(frozen=True)
class Trained:
    """A run as all ranks together saw it."""

    results: list[StepResult]
    parameters: dict[str, torch.Tensor]  # whole ones, after the last step


@dataclass(frozen=True)
class Distance:
    """How far a run is from another: largest relative differences."""

    loss: float
    norm: float
    parameters: float
    fall: float  # of the loss, in the reference

    @property
    def is_small(self) -> bool:
        """Whether the two are the same run."""
        return self.loss <= 3e-6 and self.norm <= 1e-5 and self.parameters <= 1e-5 and self.fall >= 0.05


def train(layout: Layout, optimizer: Sequence[str], shards: Path, folder: Path) -> Trained:
    """Train `layout` for five steps and put its parameters together."""
    base = ("model.layers=4", "training.microBatchSize=1", f"training.steps={STEPS}", *optimizer)
    config = tiny_config(shards, folder, (*base, *layout.overrides))
    answers = run_ranks(_train, layout.ranks, config, timeout=300.0)
    whole: dict[str, torch.Tensor] = {}
    for _, pieces in answers:
        for name, (shape, start, values) in pieces.items():
            room = whole.setdefault(name, torch.full(shape, torch.nan))
            room[tuple(slice(a, a + size) for a, size in zip(start, values.shape, strict=True))] = (
                torch.from_numpy(values)
            )
    return Trained(answers[0][0], whole)


def distance(trained: Trained, reference: Trained) -> Distance:
    """How far `trained` is from `reference`."""
    assert trained.parameters.keys() == reference.parameters.keys()
    return Distance(
        loss=_farthest(trained, reference, lambda result: result.loss),
        norm=_farthest(trained, reference, lambda result: result.gradient_norm),
        parameters=max(
            ((trained.parameters[name] - whole).norm() / whole.norm().clamp(min=1e-12)).item()
            for name, whole in reference.parameters.items()
            # It adds the same to all scores of a query, so it moves by rounding alone.
            if not name.endswith("attention.key.bias")
        ),
        fall=reference.results[0].loss - reference.results[-1].loss,
    )


def _farthest(trained: Trained, reference: Trained, of: Callable[[StepResult], float]) -> float:
    pairs = zip(trained.results, reference.results, strict=True)
    return max(abs(of(ours) - of(theirs)) / of(theirs) for ours, theirs in pairs)


def _train(config: RunConfig) -> tuple[list[StepResult], dict[str, Any]]:
    """One rank: five steps, and the pieces that it holds then."""
    with open_world(read_environment(os.environ), config.world.backend) as world:
        torch.manual_seed(config.training.seed)
        laid_out = build_model(config, world)
        stepper = Stepper(
            laid_out,
            build_optimizer(laid_out.model, config.training.optimizer),
            world,
            config.training.gradient_clip_norm,
            objective_of(config),
            config.training.seed,
        )
        loader = open_loader(config, open_shards(config, world, verify=False), laid_out.grid)
        rate = config.training.optimizer.learning_rate
        results = [stepper.step(step, loader.build(step - 1), rate, Flags()) for step in range(1, STEPS + 1)]
        return results, _pieces(laid_out.model)


def _pieces(model: Parts) -> dict[str, Any]:
    found = {}
    for name, parameter in model.named_parameters():
        piece = piece_of(parameter)
        found[name] = (tuple(parameter.shape), piece.start, piece.local.numpy(force=True).copy())
    return found
