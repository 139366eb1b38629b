"""A loss over a head whose rows are shared out is that over the whole head."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from footplate_contracts.names import Backend
from footplate_trainer.model.head_chunks import IGNORED
from footplate_trainer.model.loss import TokenLoss, summed_cross_entropy
from footplate_trainer.model.token_loss import ScoreRequest, TokenScores, summed_token_loss
from footplate_trainer.parallel.stage_module import vocabulary_shard
from footplate_trainer.parallel.world import init_distributed, read_environment
from tests.support.ranks import run_ranks

ROWS, HIDDEN, TOKENS = 10, 6, 9
SMOOTH = partial(summed_cross_entropy, loss=TokenLoss(0.1, 0.3))


Summed = Callable[..., Tensor]
"""From hidden states, head and labels, and `vocabulary` and `chunk`, to a sum over tokens."""


def of_scores(scores: TokenScores) -> Tensor:
    """Of tokens by themselves or all at once: the sum of each is squared."""
    return torch.stack(scores.score_tensors).sum(1).square().sum()


def whole_sum(*tensors: Tensor, **settings: Any) -> Tensor:
    """A loss of all tokens at once, of all that may be asked of them."""
    asked = ScoreRequest(entropy=True, temperature=0.7)
    return summed_token_loss(*tensors, of_scores, asked=asked, whole=True, **settings)


def shared_is_whole(held: tuple[int, ...], summed: Summed) -> None:
    """Each rank holds `held[rank]` rows, the last ones perhaps more than there are."""
    generator = torch.Generator().manual_seed(4)
    hidden, head = (
        torch.randn(TOKENS, HIDDEN, generator=generator),
        torch.randn(ROWS, HIDDEN, generator=generator),
    )
    labels = torch.randint(ROWS, (TOKENS,), generator=generator)
    labels[3] = IGNORED
    whole = [tensor.clone().requires_grad_() for tensor in (hidden, head)]
    expected = summed(*whole, labels)
    expected.backward()

    with init_distributed(read_environment(os.environ), Backend.GLOO) as world:
        first, rows = sum(held[: world.rank]), held[world.rank]
        padded = torch.cat((head, torch.ones(sum(held) - ROWS, HIDDEN)))
        mine = padded[first : first + rows].clone().requires_grad_()
        hidden.requires_grad_()
        vocabulary = vocabulary_shard(dist.group.WORLD, ROWS, first)
        value = summed(hidden, mine, labels, vocabulary=vocabulary, chunk=4)
        value.backward()
        dist.all_reduce(hidden.grad)

    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(hidden.grad, whole[0].grad, rtol=1e-5, atol=1e-6)
    real = max(0, min(rows, ROWS - first))
    torch.testing.assert_close(mine.grad[:real], whole[1].grad[first : first + real], rtol=1e-5, atol=1e-6)
    assert mine.grad[real:].eq(0).all()


@pytest.mark.parametrize(
    ("held", "summed"),
    [
        pytest.param((5, 5), summed_cross_entropy, id="even"),
        pytest.param((4, 4, 2), SMOOTH, id="uneven"),
        pytest.param((4, 4, 4, 4), SMOOTH, id="padded-with-one-rank-of-padding-only"),
        pytest.param((5, 5, 0), SMOOTH, id="one-rank-without-rows"),
        pytest.param((4, 4, 2), whole_sum, id="scores-uneven"),
        pytest.param((6, 6, 2, 0), whole_sum, id="scores-padded-with-one-rank-without-rows"),
    ],
)
def test_shared_out_rows(held: tuple[int, ...], summed: Summed) -> None:
    run_ranks(shared_is_whole, len(held), held, summed)
