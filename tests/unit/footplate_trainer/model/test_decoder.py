"""The decoder: what it computes, on one device."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from footplate_contracts.v1alpha1.model import AttentionBackend, PositionName
from footplate_planning.shape import ModelShape
from footplate_trainer.model.attention_mask import causal_mask
from footplate_trainer.model.decoder import Decoder
from footplate_trainer.model.initialize import initialize_rows

TINY = ModelShape(
    layers=2, hidden=32, feed_forward=96, heads=4, key_value_heads=2, head_size=8, vocabulary=500, context=24
)
LLAMA_2_7B = ModelShape(
    layers=32,
    hidden=4096,
    feed_forward=11008,
    heads=32,
    key_value_heads=32,
    head_size=128,
    vocabulary=32000,
    context=4096,
)


def decoder(shape: ModelShape = TINY, standard_deviation: float = 0.02) -> Decoder:
    model = Decoder(shape)
    for name, parameter in model.named_parameters():
        initialize_rows(parameter, name, 0, seed=5, standard_deviation=standard_deviation)
    return model


def some_tokens(batch: int = 2, length: int = 24) -> torch.Tensor:
    return torch.randint(TINY.vocabulary, (batch, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("shape", "parameters"),
    [
        pytest.param(LLAMA_2_7B, 6_738_415_616, id="llama-2-7b"),
        pytest.param(
            replace(LLAMA_2_7B, layers=80, hidden=8192, feed_forward=28672, heads=64, key_value_heads=8),
            68_976_648_192,
            id="llama-2-70b",
        ),
        pytest.param(
            replace(LLAMA_2_7B, feed_forward=14336, key_value_heads=8, vocabulary=128_256),
            8_030_261_248,
            id="llama-3.1-8b",
        ),
        pytest.param(
            ModelShape(126, 16384, 53248, 128, 8, 128, 128_256, 8192),
            405_853_388_800,
            id="llama-3.1-405b",
        ),
    ],
)
def test_the_parameter_count_is_the_published_one(shape: ModelShape, parameters: int) -> None:
    assert shape.parameters == parameters


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(TINY, id="grouped"),
        pytest.param(replace(TINY, key_value_heads=4), id="multi-head"),
        pytest.param(replace(TINY, key_value_heads=1), id="multi-query"),
        pytest.param(replace(TINY, tied_embeddings=True), id="tied"),
        pytest.param(replace(TINY, head_size=16), id="wide-heads"),
    ],
)
def test_the_formula_counts_what_is_built(shape: ModelShape) -> None:
    assert shape.parameters == sum(parameter.numel() for parameter in Decoder(shape).parameters())


def test_an_untrained_model_knows_nothing() -> None:
    tokens = some_tokens(8)
    labels = some_tokens(8).roll(1, dims=1)

    loss = torch.nn.functional.cross_entropy(decoder()(tokens).flatten(0, 1), labels.flatten())

    assert loss.item() == pytest.approx(math.log(TINY.vocabulary), rel=0.01)


def test_no_token_sees_a_later_one() -> None:
    model, tokens = decoder(standard_deviation=0.2), some_tokens()
    changed = tokens.clone()
    changed[:, 13:] = (changed[:, 13:] + 1) % TINY.vocabulary

    before, after = model(tokens), model(changed)

    torch.testing.assert_close(after[:, :13], before[:, :13])
    assert not torch.allclose(after[:, 13:], before[:, 13:])


def test_documents_in_one_sequence_do_not_see_each_other() -> None:
    model, tokens = decoder(standard_deviation=0.2), some_tokens(1)
    documents = torch.tensor([[0] * 10 + [1] * 14])
    changed = tokens.clone()
    changed[:, :10] = (changed[:, :10] + 1) % TINY.vocabulary

    before, after = model(tokens, documents), model(changed, documents)

    torch.testing.assert_close(after[:, 10:], before[:, 10:])
    assert not torch.allclose(model(changed)[:, 10:], model(tokens)[:, 10:])


def test_one_document_is_plain_causal_attention() -> None:
    model, tokens = decoder(standard_deviation=0.2), some_tokens()

    torch.testing.assert_close(model(tokens, torch.zeros_like(tokens)), model(tokens), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("documents", "window", "allowed"),
    [
        pytest.param([0, 0, 1], None, [[1, 0, 0], [1, 1, 0], [0, 0, 1]], id="documents"),
        pytest.param(None, 2, [[1, 0, 0], [1, 1, 0], [0, 1, 1]], id="window"),
        pytest.param([0, 1, 1], 1, [[1, 0, 0], [0, 1, 0], [0, 0, 1]], id="both"),
        pytest.param([0, 0, 0], 9, [[1, 0, 0], [1, 1, 0], [1, 1, 1]], id="wide-window"),
    ],
)
def test_who_looks_back_at_whom(
    documents: list[int] | None, window: int | None, allowed: list[list[int]]
) -> None:
    numbers = None if documents is None else torch.tensor([documents])

    mask = causal_mask(3, numbers, window, torch.device("cpu"))

    assert mask.tensor is not None
    assert mask.tensor.int().squeeze().tolist() == allowed


def test_what_the_causal_flag_says_needs_no_mask() -> None:
    assert causal_mask(3, None, 3, torch.device("cpu")).tensor is None


def test_rotary_positions_are_relative() -> None:
    model, tokens = decoder(standard_deviation=0.2), some_tokens(1, 8)
    padded = torch.cat((some_tokens(1, 5), tokens), dim=1)
    documents = torch.tensor([[0] * 5 + [1] * 8])

    torch.testing.assert_close(model(padded, documents)[:, 5:], model(tokens), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(TINY, id="grouped"),
        pytest.param(replace(TINY, sliding_window=5), id="window"),
        pytest.param(replace(TINY, sliding_window=9, attention_backend=AttentionBackend.EAGER), id="eager"),
        pytest.param(replace(TINY, position=PositionName.LEARNED), id="learned-positions"),
    ],
)
@pytest.mark.parametrize(
    "lengths",
    [
        pytest.param((7, *[1] * 17), id="one-by-one"),
        pytest.param((7, 5, 1, 3, 8), id="pieces"),
        pytest.param((1, 23), id="nearly-all-at-once"),
    ],
)
def test_a_cache_changes_nothing_but_the_cost(shape: ModelShape, lengths: tuple[int, ...]) -> None:
    model, tokens = decoder(shape, standard_deviation=0.2).eval(), some_tokens()
    caches = model.new_caches(batch=2, length=TINY.context)

    with torch.inference_mode():
        pieces = [model(piece, caches=caches) for piece in tokens.split(lengths, dim=1)]
        torch.testing.assert_close(torch.cat(pieces, dim=1), model(tokens), rtol=1e-4, atol=1e-4)
