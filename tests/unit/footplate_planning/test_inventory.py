"""The weights that are foreseen are those that a network has."""

from __future__ import annotations

import pytest
import torch

from footplate_contracts.v1alpha1.model import Family
from footplate_contracts.v1alpha1.parallelism import PipelineSchedule
from footplate_planning.config import with_score_head
from footplate_planning.memory import local_counts
from footplate_planning.shape import ModelShape
from footplate_planning.stage_weights import list_stage_weights
from footplate_planning.topology import Topology, stage_layers
from footplate_trainer.model.network_factory import build_network
from tests.support.nonempty import nonempty
from tests.support.shapes import shape_like

SHAPES = [
    pytest.param(shape_like(Family.LLAMA, layers=4), id="llama"),
    pytest.param(shape_like(Family.LLAMA, layers=4, tied_embeddings=True), id="tied"),
    pytest.param(shape_like(Family.QWEN2, layers=4), id="qwen2"),
    pytest.param(shape_like(Family.GPT2, layers=4), id="gpt2"),
    pytest.param(shape_like(Family.LLAMA, layers=4, adapter={"rank": 4}), id="adapters"),
    pytest.param(shape_like(Family.BERT, layers=4), id="bert"),
    pytest.param(shape_like(Family.T5), id="t5"),
    pytest.param(with_score_head(shape_like(Family.LLAMA, layers=4, tied_embeddings=True)), id="reward"),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pipeline", [1, 2, 4])
def test_each_stage_has_the_weights_of_its_part_of_the_network(shape: ModelShape, pipeline: int) -> None:
    topology = Topology(pipeline=pipeline, schedule=PipelineSchedule.ONE_FORWARD_ONE_BACKWARD)
    for number, stage in enumerate(nonempty(list_stage_weights(shape, topology))):
        with torch.device("meta"):
            network = build_network(shape)
        network.prune_to_stage(stage_layers(shape, topology)[number], number == 0, number == pipeline - 1)
        held = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}

        assert {weight.name: weight.shape for group in stage.groups for weight in group} == held


@pytest.mark.parametrize("shape", SHAPES)
def test_together_they_are_all_parameters(shape: ModelShape) -> None:
    (stage,) = list_stage_weights(shape, Topology())

    held = sum(weight.shard(1, 1) for group in stage.groups for weight in group)
    assert held == shape.parameters + shape.adapter_parameters


@pytest.mark.parametrize("pipeline", [1, 2])
@pytest.mark.parametrize("tensor", [1, 2])
def test_a_head_of_scores_is_whole_on_each_tensor_rank_and_moves_beside_adapters(
    tensor: int, pipeline: int
) -> None:
    shape = with_score_head(shape_like(Family.LLAMA, adapter={"rank": 2, "alpha": 4.0}))
    topology = Topology(tensor=tensor, pipeline=pipeline, schedule=PipelineSchedule.ONE_FORWARD_ONE_BACKWARD)
    with torch.device("meta"):
        network = build_network(shape)
    trained = {name: p.numel() for name, p in network.named_parameters() if p.requires_grad}
    counts = [local_counts(shape, topology, number) for number in range(pipeline)]

    assert trained["score.weight"] == 32 and sum(trained.values()) == shape.trained_parameters
    assert [count.moved for count in counts] == [0] * (pipeline - 1) + [32]
    assert counts[-1].end == 32 + 32, "the last norm and the head"
    assert sum(count.trained - count.adapters for count in counts) == 32


def test_a_shard_of_few_rows_is_filled_up() -> None:
    (stage,) = list_stage_weights(shape_like(Family.LLAMA), Topology(tensor=2))
    by_name = {weight.name: weight for weight in stage.outside}

    assert by_name["norm.weight"].shard(2, 5) == 7  # 32 numbers, whole on both tensor ranks
    assert by_name["embedding.weight"].shard(1, 4) == 25 * 32  # 99 rows
