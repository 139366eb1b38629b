"""The chunked cross-entropy is the textbook's, and so are its gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from footplate_trainer.model.head_chunks import IGNORED, VocabularyShard, backward_passes
from footplate_trainer.model.loss import TokenLoss, summed_cross_entropy

TOKENS, HIDDEN, ROWS = 13, 6, 11
BOTH = TokenLoss(0.1, z_loss=0.3)


def textbook(hidden: Tensor, head: Tensor, labels: Tensor, loss: TokenLoss) -> Tensor:
    """With torch's own cross-entropy, over all logits at once."""
    logits = hidden @ head.T
    cross_entropy = torch.nn.functional.cross_entropy(
        logits, labels, ignore_index=IGNORED, label_smoothing=loss.label_smoothing, reduction="sum"
    )
    normalisers = torch.logsumexp(logits, -1)[labels != IGNORED]
    return cross_entropy + loss.z_loss * normalisers.square().sum()


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    hidden, head = (torch.randn(size, HIDDEN, generator=generator).to(dtype) for size in (TOKENS, ROWS))
    labels = torch.randint(ROWS, (TOKENS,), generator=generator)
    labels[[2, 7, 12]] = IGNORED
    return hidden, head, labels


@pytest.mark.parametrize("chunk", [1, 5, 100])
@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(TokenLoss(), id="plain"),
        pytest.param(TokenLoss(label_smoothing=0.2), id="smooth"),
        pytest.param(BOTH, id="smooth-with-z-loss"),
    ],
)
def test_value_and_gradients_are_the_textbooks(loss: TokenLoss, chunk: int) -> None:
    *tensors, labels = inputs()
    ours = [tensor.clone().requires_grad_() for tensor in tensors]
    exact = [tensor.double().requires_grad_() for tensor in tensors]

    expected = textbook(exact[0], exact[1], labels, loss)
    value = summed_cross_entropy(ours[0], ours[1], labels, loss, chunk=chunk)
    (value * 0.25).backward()
    (expected * 0.25).backward()

    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
    for found, other in zip(ours, exact, strict=True):
        torch.testing.assert_close(found.grad.double(), other.grad, rtol=1e-5, atol=1e-6)


def test_a_chunk_larger_than_the_cache_is_settled_piece_by_piece() -> None:
    generator = torch.Generator().manual_seed(5)
    tokens, rows = 250, 6000  # 6 MB of logits; a piece has 2
    hidden, head = (
        torch.randn(size, HIDDEN, generator=generator).requires_grad_() for size in (tokens, rows)
    )
    labels = torch.randint(rows, (tokens,), generator=generator)
    labels[100:120] = IGNORED

    value = summed_cross_entropy(hidden, head, labels, BOTH)
    found = torch.autograd.grad(value, (hidden, head))
    exact = tuple(tensor.detach().double().requires_grad_() for tensor in (hidden, head))
    expected = textbook(exact[0], exact[1], labels, BOTH)

    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
    for gradient, other in zip(found, torch.autograd.grad(expected, exact), strict=True):
        torch.testing.assert_close(gradient.double(), other, rtol=1e-4, atol=1e-5)


def test_a_zero_bubble_pipeline_may_ask_twice() -> None:
    hidden, head, labels = inputs()
    leaves = (hidden.requires_grad_(), head.requires_grad_())
    once = torch.autograd.grad(summed_cross_entropy(*leaves, labels, BOTH), leaves)

    with backward_passes(2):
        value = summed_cross_entropy(*leaves, labels, BOTH)
    first = torch.autograd.grad(value, leaves[0], retain_graph=True)
    second = torch.autograd.grad(value, leaves[1])

    assert torch.equal(first[0], once[0])
    assert torch.equal(second[0], once[1])


def test_bf16_keeps_its_logits_in_fp32_and_its_gradients_in_bf16() -> None:
    hidden, head, labels = inputs(torch.bfloat16)
    hidden.requires_grad_()

    value = summed_cross_entropy(hidden, head, labels, BOTH)
    value.backward()
    expected = textbook(hidden.double(), head.double(), labels, BOTH)

    torch.testing.assert_close(value, expected, rtol=3e-3, atol=0)
    assert hidden.grad.dtype == torch.bfloat16


def test_a_padded_row_has_no_logit() -> None:
    hidden, head, labels = inputs()
    labels = labels.clamp(max=ROWS - 3)
    few = summed_cross_entropy(hidden, head[: ROWS - 2], labels, BOTH)

    padded = head.clone().requires_grad_()
    value = summed_cross_entropy(hidden, padded, labels, BOTH, vocabulary=VocabularyShard(ROWS - 2))
    value.backward()

    torch.testing.assert_close(value, few)
    assert padded.grad[ROWS - 2 :].eq(0).all()


def test_nothing_to_predict_is_no_loss_and_no_gradient() -> None:
    hidden, head, labels = inputs()
    hidden.requires_grad_()

    value = summed_cross_entropy(hidden, head, torch.full_like(labels, IGNORED), BOTH)
    value.backward()

    assert value.item() == 0
    assert hidden.grad.eq(0).all()


def test_extreme_logits_do_not_overflow() -> None:
    hidden = torch.tensor([[1e4, 0.0]])
    head = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])

    assert summed_cross_entropy(hidden, head, torch.tensor([1])).item() == pytest.approx(2e4)
