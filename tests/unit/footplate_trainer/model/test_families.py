"""Every family: counted exactly, cut into stages, and looking where it may."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from footplate_contracts.v1alpha1.model import Activation, Family
from footplate_planning.shape import ModelShape
from footplate_trainer.model.inputs import Inputs
from footplate_trainer.model.network import TransformerNetwork
from footplate_trainer.model.network_factory import build_network
from tests.support.shapes import STRETCH, fill, shape_like, some_tokens

DOCUMENTS = torch.tensor([[0] * 24, [0] * 9 + [1] * 15])
SHAPES = [
    pytest.param(shape_like(Family.LLAMA, key_value_heads=1, position={"scaling": STRETCH}), id="llama"),
    pytest.param(shape_like(Family.MISTRAL, attention={"sliding_window": 5}), id="mistral"),
    pytest.param(shape_like(Family.QWEN2, tied_embeddings=True, key_value_heads=2), id="qwen2"),
    pytest.param(shape_like(Family.GPT2), id="gpt2"),
    pytest.param(shape_like(Family.BERT), id="bert"),
    pytest.param(shape_like(Family.BERT, tied_embeddings=False), id="bert-untied"),
    pytest.param(shape_like(Family.T5, decoder_layers=3), id="t5"),
    pytest.param(
        shape_like(Family.T5, activation=Activation.GEGLU, tied_embeddings=False), id="t5-gated-untied"
    ),
]


LEARNED = [
    pytest.param(shape_like(Family.GPT2), id="gpt2"),
    pytest.param(shape_like(Family.BERT), id="bert"),
]


def stage(shape: ModelShape, blocks: range, first: bool, last: bool) -> TransformerNetwork:
    with torch.device("meta"):
        model = build_network(shape)
    model.prune_to_stage(blocks, first, last)
    model.to_empty(device="cpu")
    model.reset_tables()
    fill(model)
    return model


@pytest.mark.parametrize(
    ("family", "sizes", "parameters"),
    [
        pytest.param(Family.GPT2, (12, 768, 12, 50257, 1024), 124_439_808, id="gpt2-small"),
        pytest.param(Family.BERT, (12, 768, 12, 30522, 512), 109_514_298, id="bert-base-masked"),
        pytest.param(Family.T5, (6, 512, 8, 32128, 512), 60_506_624, id="t5-small"),
    ],
)
def test_the_parameter_count_is_the_published_one(
    family: Family, sizes: tuple[int, ...], parameters: int
) -> None:
    names = ("layers", "hidden_size", "attention_heads", "vocabulary_size", "context_length")

    assert shape_like(family, **dict(zip(names, sizes, strict=True))).parameters == parameters


@pytest.mark.parametrize("shape", SHAPES)
def test_the_formula_counts_what_is_built(shape: ModelShape) -> None:
    with torch.device("meta"):
        assert shape.parameters == sum(parameter.numel() for parameter in build_network(shape).parameters())


@pytest.mark.parametrize("shape", SHAPES)
def test_a_stage_for_each_block_is_the_whole(shape: ModelShape) -> None:
    inputs = Inputs(some_tokens(), DOCUMENTS, decoder_tokens=some_tokens(seed=2), decoder_documents=DOCUMENTS)
    states: tuple[torch.Tensor, ...] = ()
    names = set()
    for number in range(shape.blocks):
        part = stage(shape, range(number, number + 1), number == 0, number == shape.blocks - 1)
        states = part.forward_stage(*states, inputs=inputs)
        names |= {name for name, _ in part.named_parameters()}

    whole = stage(shape, range(shape.blocks), True, True)
    logits = whole(
        inputs.tokens,
        DOCUMENTS,
        decoder_tokens=inputs.decoder_tokens,
        decoder_documents=DOCUMENTS,
    )
    assert torch.equal(functional.linear(states[0], part.head_weight), logits)
    assert names == {name for name, _ in whole.named_parameters()}


def test_a_window_ends_what_is_seen() -> None:
    """Two layers of window 5 see 8 tokens back."""
    model = stage(shape_like(Family.MISTRAL, attention={"sliding_window": 5}), range(2), True, True)
    tokens = some_tokens(1)
    changed = tokens.clone()
    changed[:, 0] = (changed[:, 0] + 1) % 99

    before, after = model(tokens)[0], model(changed)[0]

    assert not torch.allclose(after[8], before[8])
    torch.testing.assert_close(after[9:], before[9:], rtol=0, atol=0)


@pytest.mark.parametrize("shape", LEARNED)
def test_packed_documents_stand_where_each_would_alone(shape: ModelShape) -> None:
    model, tokens = stage(shape, range(2), True, True), some_tokens(1)
    lengths = (9, 1, 14)
    documents = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))[None]

    alone = [model(document) for document in tokens.split(lengths, dim=1)]

    torch.testing.assert_close(model(tokens, documents), torch.cat(alone, dim=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", LEARNED)
def test_a_share_of_a_sequence_has_the_places_of_the_whole(shape: ModelShape) -> None:
    """The first and last quarter, as a rank of a context group has it; the second half, as a tensor rank."""
    model, tokens = stage(shape, range(2), True, True), some_tokens()
    whole = model.embed(Inputs(tokens, DOCUMENTS))
    positions = torch.cat((torch.arange(6), torch.arange(18, 24)))
    dealt = Inputs(tokens[:, positions], DOCUMENTS, positions=positions)

    assert torch.equal(model.embed(dealt), whole[:, positions])

    model.embedding = _SecondHalf.from_pretrained(model.embedding.weight)
    model.set_sequence_shard(1, 2)
    assert torch.equal(model.embed(Inputs(tokens, DOCUMENTS)), whole[:, 12:])
    assert torch.equal(model.embed(dealt), whole[:, positions[6:]])


class _SecondHalf(nn.Embedding):
    """An embedding that gives a rank its part of each sequence, as tensor parallelism's does."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return super().forward(tokens).chunk(2, dim=1)[1]


def test_an_encoder_sees_both_ways_and_no_other_document() -> None:
    model, tokens = stage(shape_like(Family.BERT), range(2), True, True), some_tokens()
    changed = tokens.clone()
    changed[1, -1] = (changed[1, -1] + 1) % 99

    before, after = model(tokens, DOCUMENTS)[1], model(changed, DOCUMENTS)[1]

    assert not torch.allclose(after[9:], before[9:])
    torch.testing.assert_close(after[:9], before[:9], rtol=0, atol=0)


def test_a_decoder_behind_an_encoder_sees_all_of_that_and_nothing_later_of_its_own() -> None:
    model = stage(shape_like(Family.T5), range(4), True, True)
    source, target = some_tokens(1), some_tokens(1, 10, seed=2)
    late_source, late_target = source.clone(), target.clone()
    late_source[:, -1] = (late_source[:, -1] + 1) % 99
    late_target[:, 5] = (late_target[:, 5] + 1) % 99

    plain = model(source, decoder_tokens=target)[0]
    other_source = model(late_source, decoder_tokens=target)[0]
    other_target = model(source, decoder_tokens=late_target)[0]

    assert not torch.allclose(other_source[0], plain[0])
    torch.testing.assert_close(other_target[:5], plain[:5], rtol=0, atol=0)
    assert not torch.allclose(other_target[5:], plain[5:])
