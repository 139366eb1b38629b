"""FLOPs against published numbers (torchtitan, Megatron)."""

from __future__ import annotations

import pytest

from footplate_contracts.v1alpha1.model import Family
from footplate_planning.flops import (
    Convention,
    flops_per_token,
    peak_tflops,
    utilisation,
)
from footplate_planning.shape import ModelShape
from tests.support.shapes import shape_like


def llama3(layers: int, hidden: int, feed_forward: int, heads: int, tied: bool = False) -> ModelShape:
    return ModelShape(
        layers=layers,
        hidden=hidden,
        feed_forward=feed_forward,
        heads=heads,
        key_value_heads=8,
        head_size=128,
        vocabulary=128_256,
        context=8192,
        tied_embeddings=tied,
    )


EIGHT = llama3(32, 4096, 14_336, 32)
SEVENTY = llama3(80, 8192, 28_672, 64)
FOUR_HUNDRED = llama3(126, 16_384, 53_248, 128)


@pytest.mark.parametrize(
    ("network", "full", "causal"),
    [
        pytest.param(EIGHT, 57.914, 51.47, id="llama-3-8b"),
        pytest.param(SEVENTY, 481.44, 449.23, id="llama-3-70b"),
        pytest.param(FOUR_HUNDRED, 2625.4, 2523.98, id="llama-3-405b"),
    ],
)
def test_flops_of_known_networks(network: ModelShape, full: float, causal: float) -> None:
    assert flops_per_token(network, 8192, Convention.FULL) / 1e9 == pytest.approx(full, rel=2e-5)
    assert flops_per_token(network, 8192, Convention.CAUSAL) / 1e9 == pytest.approx(causal, rel=7e-5)
    assert flops_per_token(network, 8192, Convention.NONE) == 6 * network.parameters


def test_bert_by_hand() -> None:
    """bert-base at 512 tokens: every pair of positions in both conventions, the head is the embedding."""
    bert = shape_like(
        Family.BERT,
        layers=12,
        hidden_size=768,
        attention_heads=12,
        vocabulary_size=30_522,
        context_length=512,
    )
    block = 4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768 + 4 * 768
    head = 768 * 768 + 768 + 2 * 768 + 30_522 * 768 + 30_522
    by_hand = 6 * (12 * block + head) + 12 * 12 * 768 * 512

    assert flops_per_token(bert, 512, Convention.FULL) == by_hand
    assert flops_per_token(bert, 512, Convention.CAUSAL) == by_hand


def test_t5_by_hand() -> None:
    """t5-small, 512 tokens in and 114 out: each side's weights see its own tokens."""
    t5 = shape_like(
        Family.T5, layers=6, hidden_size=512, attention_heads=8, vocabulary_size=32_128, context_length=512
    )
    attention, feed_forward, norm = 4 * 512 * 512, 2 * 512 * 2048, 512
    encoder = 6 * (attention + feed_forward + 2 * norm)
    decoder = 6 * (attention + 2 * 512 * 512 + feed_forward + 3 * norm)
    across = 6 * 2 * 512 * 512  # keys and values of what the encoder made
    head = 6 * (32_128 * 512 + 2 * norm)
    weights = 6 * (encoder + across) * 512 + (6 * decoder + head) * 114
    pairs = 12 * 6 * 512 * (512 * 512 + 114 * 512)

    full, causal = (
        flops_per_token(t5, 512, convention, 114) * 512 for convention in (Convention.FULL, Convention.CAUSAL)
    )
    assert full == pytest.approx(weights + pairs + 12 * 6 * 512 * 114 * 114, rel=1e-12)
    assert causal == pytest.approx(weights + pairs + 6 * 6 * 512 * 114 * 114, rel=1e-12)


def test_a_tied_embedding_is_a_matrix_of_the_output_head() -> None:
    tied, untied = (llama3(2, 4096, 14_336, 32, tied) for tied in (True, False))
    counts = [flops_per_token(network, 128, Convention.FULL) for network in (tied, untied)]
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("tokens_per_second", "mfu"),
    [pytest.param(5762, 0.337, id="eager"), pytest.param(6667, 0.390, id="compiled")],
)
def test_torchtitans_utilisation_on_an_h100(tokens_per_second: float, mfu: float) -> None:
    flops = flops_per_token(EIGHT, 8192, Convention.FULL)
    assert utilisation(flops, tokens_per_second, 1, 989.4) == pytest.approx(mfu, abs=5e-4)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        pytest.param("NVIDIA A100-SXM4-80GB", 312.0, id="a100"),
        pytest.param("NVIDIA H100 80GB HBM3", 989.4, id="h100-sxm"),
        pytest.param("NVIDIA H100 PCIe", 756.0, id="h100-pcie"),
        pytest.param("NVIDIA H100 NVL", 835.0, id="h100-nvl"),
        pytest.param("NVIDIA H200", 989.0, id="h200"),
        pytest.param("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None, id="a-slice-of-a-device"),
        pytest.param("NVIDIA H200 NVL", None, id="other-clocks"),
        pytest.param("cpu", None, id="cpu"),
    ],
)
def test_peaks_are_known_or_absent(name: str, peak: float | None) -> None:
    assert peak_tflops(name) == peak
