"""A network cut into pipeline stages is the same network."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from footplate_planning.shape import ModelShape
from footplate_trainer.model.attention import MultiHeadAttention
from footplate_trainer.model.decoder import Decoder
from footplate_trainer.model.initialize import initialize_rows
from footplate_trainer.model.inputs import Inputs

TINY = ModelShape(
    layers=3, hidden=16, feed_forward=32, heads=2, key_value_heads=1, head_size=8, vocabulary=50, context=12
)
TIED = replace(TINY, tied_embeddings=True)


def stage(shape: ModelShape, blocks: range, first: bool, last: bool) -> Decoder:
    with torch.device("meta"):
        model = Decoder(shape)
    model.prune_to_stage(blocks, first, last)
    model.to_empty(device="cpu")
    model.reset_tables()
    for name, parameter in model.named_parameters():
        initialize_rows(parameter, name, 0, seed=5, standard_deviation=0.2)
    return model


@pytest.mark.parametrize("shape", [pytest.param(TINY, id="untied"), pytest.param(TIED, id="tied")])
def test_stages_one_after_the_other_are_the_whole(shape: ModelShape) -> None:
    inputs = Inputs(torch.arange(24).view(2, 12), documents=torch.tensor([[0] * 12, [0] * 5 + [1] * 7]))
    first, middle, last = (
        stage(shape, range(1), True, False),
        stage(shape, range(1, 2), False, False),
        stage(shape, range(2, 3), False, True),
    )

    sent = middle.forward_stage(*first.forward_stage(inputs=inputs), inputs=inputs)
    (hidden,) = last.forward_stage(*sent, inputs=inputs)

    whole = stage(shape, range(3), True, True)
    assert torch.equal(
        functional.linear(hidden, last.head_weight), whole(inputs.tokens, documents=inputs.documents)
    )


@pytest.mark.parametrize("shape", [pytest.param(TINY, id="untied"), pytest.param(TIED, id="tied")])
def test_names_are_the_same_in_every_stage(shape: ModelShape) -> None:
    whole = set(dict(stage(shape, range(3), True, True).named_parameters()))
    first = set(dict(stage(shape, range(1), True, False).named_parameters()))
    last = set(dict(stage(shape, range(1, 3), False, True).named_parameters()))

    assert first | last == whole
    assert first & last == ({"embedding.weight"} if shape.tied_embeddings else set())
    assert "blocks.2.attention.query.weight" in last
    assert "blocks.0.attention.query.weight" in first


def test_positions_may_be_given() -> None:
    model, tokens = stage(TINY, range(3), True, True), torch.arange(12).view(1, 12)

    (plain,) = model.forward_stage(inputs=Inputs(tokens))
    (told,) = model.forward_stage(inputs=Inputs(tokens, positions=torch.arange(12)))
    (stretched,) = model.forward_stage(inputs=Inputs(tokens[:, :6], positions=torch.arange(0, 12, 2)))

    assert torch.equal(told, plain)
    assert not torch.allclose(stretched, plain[:, :6])


def test_attention_may_be_done_by_another() -> None:
    def blind(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: str) -> torch.Tensor:
        assert mask == "nothing"
        return torch.zeros_like(query)

    model = stage(TINY, range(3), True, True)
    model.attention_mask = lambda inputs: "nothing"
    for module in model.modules():
        if isinstance(module, MultiHeadAttention):
            module.attend = blind
    (hidden,) = model.forward_stage(inputs=Inputs(torch.tensor([[1, 2, 3, 3]])))

    assert torch.equal(hidden[0, 2], hidden[0, 3]), "what sees nothing knows only itself"
