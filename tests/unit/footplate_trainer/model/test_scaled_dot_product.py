"""The backends of attention agree, whatever a query may look at."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from footplate_contracts.v1alpha1.model import AttentionBackend, Family
from footplate_planning.shape import ModelShape
from footplate_trainer.model.attention_mask import AttentionMask, bidirectional_mask, causal_mask
from footplate_trainer.model.network_factory import build_network
from footplate_trainer.model.scaled_dot_product import fused_attention, get_attention_function
from tests.support.shapes import fill, shape_like, some_tokens

LENGTH = 24
CPU = torch.device("cpu")
DOCUMENTS = torch.tensor([[0] * LENGTH, [0] * 9 + [1] * 15])
NOTHING_AT_THE_END = (torch.arange(LENGTH) < 20)[None, None, :, None].expand(2, 1, LENGTH, LENGTH)
BIAS = torch.randn(1, 4, LENGTH, LENGTH, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    "mask",
    [
        pytest.param(AttentionMask(), id="causal"),
        pytest.param(AttentionMask(causal=False), id="both-ways"),
        pytest.param(causal_mask(LENGTH, None, 5, CPU), id="window"),
        pytest.param(causal_mask(LENGTH, DOCUMENTS, None, CPU), id="documents"),
        pytest.param(causal_mask(LENGTH, DOCUMENTS, 5, CPU), id="window-in-documents"),
        pytest.param(bidirectional_mask(DOCUMENTS), id="both-ways-in-documents"),
        pytest.param(AttentionMask(causal=False, tensor=NOTHING_AT_THE_END), id="padding-sees-nothing"),
        pytest.param(AttentionMask(causal=False, tensor=BIAS, scale=1.0), id="bias"),
        pytest.param(
            AttentionMask(tensor=BIAS.masked_fill(~torch.ones(LENGTH, LENGTH).bool().tril(), -torch.inf)),
            id="causal-bias",
        ),
    ],
)
@pytest.mark.parametrize("key_value_heads", [4, 2, 1])
def test_eager_attention_is_sdpa(mask: AttentionMask, key_value_heads: int) -> None:
    generator = torch.Generator().manual_seed(1)
    inputs = query, key, value = [
        torch.randn(2, heads, LENGTH, 8, generator=generator, requires_grad=True)
        for heads in (4, key_value_heads, key_value_heads)
    ]
    weights = torch.randn(2, 4, LENGTH, 8, generator=generator)
    answers = []
    for backend in (fused_attention, get_attention_function(AttentionBackend.EAGER)):
        attended = backend(query, key, value, mask)
        answers.append((attended, *torch.autograd.grad((attended * weights).sum(), inputs)))

    assert get_attention_function(AttentionBackend.EAGER) is not fused_attention
    for fused, eager in zip(*answers, strict=True):
        torch.testing.assert_close(eager, fused, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(shape_like(Family.MISTRAL, attention={"sliding_window": 5}), id="mistral"),
        pytest.param(shape_like(Family.GPT2), id="gpt2"),
        pytest.param(shape_like(Family.BERT), id="bert"),
        pytest.param(shape_like(Family.T5), id="t5"),
    ],
)
def test_a_network_is_the_same_with_either(shape: ModelShape) -> None:
    fused, eager = (
        build_network(shape),
        build_network(replace(shape, attention_backend=AttentionBackend.EAGER)),
    )
    fill(fused, 0.1)
    fill(eager, 0.1)

    def logits(model: torch.nn.Module) -> torch.Tensor:
        answer: torch.Tensor = model(
            some_tokens(), DOCUMENTS, decoder_tokens=some_tokens(seed=2), decoder_documents=DOCUMENTS
        )
        return answer

    torch.testing.assert_close(logits(eager), logits(fused), rtol=0, atol=1e-5)
