"""A loss of log-probabilities, entropies and tempered ones is autograd's over all logits at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from footplate_trainer.model.head_chunks import IGNORED, VocabularyShard, backward_passes
from footplate_trainer.model.token_loss import ScoreRequest, TokenScores, summed_token_loss, token_scores

TOKENS, HIDDEN, ROWS = 13, 6, 11
EVERYTHING = ScoreRequest(entropy=True, temperature=0.7)
COUNTING = [place for place in range(TOKENS) if place not in (2, 7, 12)]
WEIGHTS = torch.linspace(-1.0, 2.0, TOKENS)


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    hidden, head = (torch.randn(size, HIDDEN, generator=generator).to(dtype) for size in (TOKENS, ROWS))
    labels = torch.randint(ROWS, (TOKENS,), generator=generator)
    labels[[2, 7, 12]] = IGNORED
    return hidden, head, labels


def dense(hidden: Tensor, head: Tensor, labels: Tensor, asked: ScoreRequest) -> TokenScores:
    """As everyone writes it, of all logits."""
    logits = (hidden @ head.T)[labels != IGNORED]
    where = (labels != IGNORED).nonzero().squeeze(1)
    chosen = labels[where][:, None]
    shares = logits.log_softmax(-1)
    return TokenScores(
        where,
        shares.gather(1, chosen).squeeze(1),
        -(shares.exp() * shares).sum(-1) if asked.entropy else None,
        (logits / asked.temperature).log_softmax(-1).gather(1, chosen).squeeze(1)
        if asked.temperature is not None
        else None,
    )


def weighted(scores: TokenScores) -> Tensor:
    """Of each token by itself: minus its log-probability, weighted."""
    return -(scores.log_probabilities * WEIGHTS[scores.where]).sum()


def clipped(scores: TokenScores) -> Tensor:
    """Of each token by itself, with a kink: as a policy's ratio to an older one."""
    ratios = torch.exp(scores.log_probabilities + 2.4)
    return -torch.minimum(ratios * WEIGHTS[scores.where], ratios.clamp(0.8, 1.2)).sum()


def of_everything(scores: TokenScores) -> Tensor:
    """Of each token by itself, of all three numbers."""
    assert scores.entropies is not None and scores.tempered is not None
    mixed = scores.log_probabilities * scores.entropies + scores.tempered.square()
    return (mixed * WEIGHTS[scores.where]).sum()


def preferred(scores: TokenScores) -> Tensor:
    """Of two sequences against each other: the first 6 places and the others."""
    first = torch.where(scores.where < 6, scores.log_probabilities, 0.0).sum()
    return -torch.nn.functional.logsigmoid(0.3 * (2 * first - scores.log_probabilities.sum()))


LOSSES = [
    pytest.param(weighted, ScoreRequest(), False, id="weighted"),
    pytest.param(clipped, ScoreRequest(), False, id="clipped"),
    pytest.param(of_everything, EVERYTHING, False, id="entropy-and-temperature"),
    pytest.param(of_everything, EVERYTHING, True, id="the-same-at-once"),
    pytest.param(preferred, ScoreRequest(), True, id="preferred"),
]


@pytest.mark.parametrize("chunk", [1, 5, 100])
@pytest.mark.parametrize(("score", "asked", "whole"), LOSSES)
def test_value_and_gradients_are_autograds(
    score: Callable[[TokenScores], Tensor], asked: ScoreRequest, whole: bool, chunk: int
) -> None:
    *tensors, labels = inputs()
    ours = [tensor.clone().requires_grad_() for tensor in tensors]
    exact = [tensor.double().requires_grad_() for tensor in tensors]

    value = summed_token_loss(*ours, labels, score, asked=asked, whole=whole, chunk=chunk)
    expected = score(dense(exact[0], exact[1], labels, asked))
    (value * 0.25).backward()
    (expected * 0.25).backward()

    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)
    for found, other in zip(ours, exact, strict=True):
        torch.testing.assert_close(found.grad.double(), other.grad, rtol=1e-5, atol=1e-6)


def test_a_chunk_larger_than_the_cache_is_scored_piece_by_piece() -> None:
    generator = torch.Generator().manual_seed(5)
    tokens, rows = 250, 6000  # 6 MB of logits; a piece has 2
    hidden, head = (torch.randn(size, HIDDEN, generator=generator) for size in (tokens, rows))
    labels = torch.randint(rows, (tokens,), generator=generator)
    ours = [tensor.clone().requires_grad_() for tensor in (hidden, head)]
    exact = [tensor.double().requires_grad_() for tensor in (hidden, head)]

    def score(scores: TokenScores) -> Tensor:
        assert scores.entropies is not None and scores.tempered is not None
        return (scores.log_probabilities + scores.entropies * scores.tempered).sum()

    summed_token_loss(*ours, labels, score, asked=EVERYTHING).backward()
    score(dense(exact[0], exact[1], labels, EVERYTHING)).backward()

    for found, other in zip(ours, exact, strict=True):
        # Sums of thousands of terms: one that nearly cancels has the rounding errors of those that do not.
        apart = 1e-5 * other.grad.abs().max().item()
        torch.testing.assert_close(found.grad.double(), other.grad, rtol=0, atol=apart)


@pytest.mark.parametrize(("score", "asked", "whole"), LOSSES)
def test_a_zero_bubble_pipeline_may_ask_twice(
    score: Callable[[TokenScores], Tensor], asked: ScoreRequest, whole: bool
) -> None:
    hidden, head, labels = inputs()
    leaves = (hidden.requires_grad_(), head.requires_grad_())
    once = torch.autograd.grad(summed_token_loss(*leaves, labels, score, asked=asked, whole=whole), leaves)

    with backward_passes(2):
        value = summed_token_loss(*leaves, labels, score, asked=asked, whole=whole)
    first = torch.autograd.grad(value, leaves[0], retain_graph=True)
    second = torch.autograd.grad(value, leaves[1])

    assert torch.equal(first[0], once[0])
    assert torch.equal(second[0], once[1])


def test_bf16_is_scored_in_fp32_and_its_gradients_are_bf16() -> None:
    hidden, head, labels = inputs(torch.bfloat16)
    leaves = (hidden.requires_grad_(), head.requires_grad_())
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]

    value = summed_token_loss(*leaves, labels, of_everything, asked=EVERYTHING)
    expected = of_everything(dense(exact[0], exact[1], labels, EVERYTHING))
    value.backward()
    expected.backward()

    torch.testing.assert_close(value, expected, rtol=2e-2, atol=0)
    for leaf, other in zip(leaves, exact, strict=True):
        assert leaf.grad.dtype == torch.bfloat16
        torch.testing.assert_close(leaf.grad.double(), other.grad, rtol=0, atol=0.02 * other.grad.abs().max())


def test_scores_are_there_for_each_label_that_counts_and_0_for_others() -> None:
    hidden, head, labels = inputs()
    expected = dense(hidden, head, labels, EVERYTHING)

    found = token_scores(hidden[None], head, labels[None], asked=EVERYTHING, chunk=5)

    assert found.shape == (3, 1, TOKENS)
    torch.testing.assert_close(found[:, 0, COUNTING], torch.stack(expected.score_tensors))
    assert found[:, 0, [2, 7, 12]].eq(0).all()


def test_rows_that_pad_the_vocabulary_have_no_part() -> None:
    hidden, head, labels = inputs()
    labels = labels.clamp(max=ROWS - 3)
    few = summed_token_loss(hidden, head[: ROWS - 2], labels, of_everything, asked=EVERYTHING)

    padded = head.clone().requires_grad_()
    value = summed_token_loss(
        hidden, padded, labels, of_everything, asked=EVERYTHING, vocabulary=VocabularyShard(ROWS - 2)
    )
    value.backward()

    torch.testing.assert_close(value, few)
    assert padded.grad[ROWS - 2 :].eq(0).all()


@pytest.mark.parametrize("whole", [False, True])
def test_without_a_label_there_is_no_gradient(whole: bool) -> None:
    hidden, head, labels = inputs()
    leaves = (hidden.requires_grad_(), head.requires_grad_())
    calls: list[int] = []

    def score(scores: TokenScores) -> Tensor:
        calls.append(len(scores.where))
        return scores.log_probabilities.sum() + 0.5

    value = summed_token_loss(*leaves, torch.full_like(labels, IGNORED), score, whole=whole)
    value.backward()

    assert calls == ([0] if whole else [])
    assert value.item() == (0.5 if whole else 0.0)
    assert all(leaf.grad.eq(0).all() for leaf in leaves)


def test_a_head_that_is_frozen_gets_no_gradient() -> None:
    hidden, head, labels = inputs()
    trained = hidden.clone().requires_grad_()
    summed_token_loss(trained, head.clone().requires_grad_(), labels, weighted).backward()

    hidden.requires_grad_()
    summed_token_loss(hidden, head, labels, weighted).backward()

    assert torch.equal(hidden.grad, trained.grad)
    assert head.grad is None


def test_a_loss_of_no_token_is_a_number() -> None:
    hidden, head, labels = inputs()
    hidden.requires_grad_()

    value = summed_token_loss(hidden, head, labels, lambda scores: scores.where.new_ones(()))
    value.backward()

    assert value.item() == 1
    assert hidden.grad.eq(0).all()


def test_extreme_logits_do_not_overflow() -> None:
    hidden = torch.tensor([[1e4, 0.0]])
    head = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])

    found = token_scores(hidden, head, torch.tensor([1]), asked=EVERYTHING)

    assert found.flatten().tolist() == pytest.approx([-2e4, 0.0, -2e4 / 0.7])
