"""Cross-entropy over a head whose rows are shared out is that over the whole head."""

from __future__ import annotations

import os

import pytest
import torch
import torch.distributed as dist

from footplate_contracts.names import Backend
from footplate_trainer.model.head_chunks import IGNORED
from footplate_trainer.model.loss import TokenLoss, summed_cross_entropy
from footplate_trainer.parallel.stage_module import vocabulary_shard
from footplate_trainer.parallel.world import open_world, read_environment
from tests.support.ranks import run_ranks

ROWS, HIDDEN, TOKENS = 10, 6, 9


def shared_is_whole(held: tuple[int, ...], loss: TokenLoss) -> None:
    """Each rank holds `held[rank]` rows, the last ones perhaps more than there are."""
    generator = torch.Generator().manual_seed(4)
    hidden, head = (
        torch.randn(TOKENS, HIDDEN, generator=generator),
        torch.randn(ROWS, HIDDEN, generator=generator),
    )
    labels = torch.randint(ROWS, (TOKENS,), generator=generator)
    labels[3] = IGNORED
    whole = [tensor.clone().requires_grad_() for tensor in (hidden, head)]
    expected = summed_cross_entropy(*whole, labels, loss)
    expected.backward()

    with open_world(read_environment(os.environ), Backend.GLOO) as world:
        first, rows = sum(held[: world.rank]), held[world.rank]
        padded = torch.cat((head, torch.ones(sum(held) - ROWS, HIDDEN)))
        mine = padded[first : first + rows].clone().requires_grad_()
        hidden.requires_grad_()
        vocabulary = vocabulary_shard(dist.group.WORLD, ROWS, first)
        value = summed_cross_entropy(hidden, mine, labels, loss, vocabulary=vocabulary, chunk=4)
        value.backward()
        dist.all_reduce(hidden.grad)

    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(hidden.grad, whole[0].grad, rtol=1e-5, atol=1e-6)
    real = max(0, min(rows, ROWS - first))
    torch.testing.assert_close(mine.grad[:real], whole[1].grad[first : first + real], rtol=1e-5, atol=1e-6)
    assert mine.grad[real:].eq(0).all()


@pytest.mark.parametrize(
    ("held", "loss"),
    [
        pytest.param((5, 5), TokenLoss(), id="even"),
        pytest.param((4, 4, 2), TokenLoss(0.1, 0.3), id="uneven"),
        pytest.param((4, 4, 4, 4), TokenLoss(0.1, 0.3), id="padded-with-one-rank-of-padding-only"),
        pytest.param((5, 5, 0), TokenLoss(0.1, 0.3), id="one-rank-without-rows"),
    ],
)
def test_shared_out_rows(held: tuple[int, ...], loss: TokenLoss) -> None:
    run_ranks(shared_is_whole, len(held), held, loss)
