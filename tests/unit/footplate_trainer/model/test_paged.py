"""Keys and values in blocks: whatever lies where, the numbers are those of whole sequences."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import torch
from torch.nn import functional

from footplate_contracts.v1alpha1.model import AttentionBackend, Family
from footplate_planning.shape import ModelShape
from footplate_trainer.model.attention_mask import offset_causal_mask
from footplate_trainer.model.decoder import Decoder
from footplate_trainer.model.paged_cache import PagedKeyValueCache, PagedTokens
from tests.support.shapes import fill, shape_like, some_tokens

SIZE, BLOCKS = 4, 40
SHAPES = [
    pytest.param(shape_like(Family.LLAMA, key_value_heads=2), id="grouped"),
    pytest.param(shape_like(Family.LLAMA, attention={"backend": AttentionBackend.EAGER}), id="eager"),
    pytest.param(shape_like(Family.MISTRAL, attention={"sliding_window": 5}), id="window"),
    pytest.param(shape_like(Family.GPT2), id="learned-positions"),
]


@dataclass
class Row:
    """A sequence on its way through passes."""

    tokens: list[int]
    blocks: list[int]
    done: int = 0
    logits: list[torch.Tensor] = field(default_factory=list)


def decoder(shape: ModelShape) -> Decoder:
    model = Decoder(shape)
    fill(model)
    return model.eval()


def cache_of(model: Decoder) -> PagedKeyValueCache:
    shape = model.shape
    return PagedKeyValueCache(
        layers=shape.layers,
        blocks=BLOCKS,
        size=SIZE,
        heads=shape.key_value_heads,
        head_size=shape.head_size,
        like=next(model.parameters()),
    )


@torch.inference_mode()
def run_pass(model: Decoder, cache: PagedKeyValueCache, taken: list[tuple[Row, int]]) -> None:
    """The next so many tokens of each row, in one pass."""
    inputs, states = cache.prepare_pass(
        [PagedTokens(row.tokens[row.done : row.done + count], row.done, row.blocks) for row, count in taken]
    )
    (hidden,) = model.forward_stage(inputs=inputs, caches=states)
    logits = functional.linear(hidden, model.head_weight)[0]
    for (row, count), piece in zip(taken, logits.split([count for _, count in taken]), strict=True):
        row.logits.append(piece)
        row.done += count


def blocks_at_random(rng: random.Random, lengths: list[int]) -> Iterator[list[int]]:
    free = rng.sample(range(BLOCKS), BLOCKS)
    for length in lengths:
        count = -(-length // SIZE)
        yield free[:count]
        del free[:count]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_pieces_of_many_sequences_in_any_blocks_are_whole_sequences(shape: ModelShape, seed: int) -> None:
    rng, model = random.Random(seed), decoder(shape)
    lengths = [24, 3, 17, 1, 8, 23, 9]
    tokens = [some_tokens(1, length, seed=number)[0].tolist() for number, length in enumerate(lengths)]
    rows = [Row(*row) for row in zip(tokens, blocks_at_random(rng, lengths), strict=True)]
    cache = cache_of(model)

    while waiting := [row for row in rows if row.done < len(row.tokens)]:
        some = rng.sample(waiting, rng.randint(1, len(waiting)))
        run_pass(
            model, cache, [(row, min(rng.choice((1, 1, 2, 7)), len(row.tokens) - row.done)) for row in some]
        )

    for row in rows:
        with torch.inference_mode():
            torch.testing.assert_close(
                torch.cat(row.logits), model(torch.tensor([row.tokens]))[0], rtol=1e-4, atol=1e-4
            )


def test_a_block_may_be_read_by_another_sequence_in_the_pass_that_writes_it() -> None:
    model, tokens = decoder(shape_like(Family.LLAMA)), some_tokens(1, 11)[0].tolist()
    cache = cache_of(model)
    first, second = Row(tokens, [7, 3, 5]), Row([*tokens[:8], 1, 2], [7, 3, 9], done=8)

    run_pass(model, cache, [(second, 2), (first, 11)])

    with torch.inference_mode():
        whole = model(torch.tensor([second.tokens]))[0, 8:]
    torch.testing.assert_close(second.logits[0], whole, rtol=1e-4, atol=1e-4)


def test_a_copied_block_goes_its_own_way() -> None:
    model, tokens = decoder(shape_like(Family.LLAMA)), some_tokens(1, 6)[0].tolist()
    cache = cache_of(model)
    first, second = Row([*tokens, 5], [2, 8]), Row([*tokens, 6], [2, 4], done=6)
    run_pass(model, cache, [(first, 6)])

    cache.copy_blocks([(8, 4)])
    run_pass(model, cache, [(first, 1), (second, 1)])

    for row in (first, second):
        with torch.inference_mode():
            whole = model(torch.tensor([row.tokens]))[0, -1:]
        torch.testing.assert_close(row.logits[-1], whole, rtol=1e-4, atol=1e-4)


def test_nothing_is_asked_of_a_mask_where_a_single_token_sees_all() -> None:
    assert offset_causal_mask(9, 1, 10, torch.device("cpu")).tensor is None
    assert offset_causal_mask(9, 1, 9, torch.device("cpu")).tensor is not None
