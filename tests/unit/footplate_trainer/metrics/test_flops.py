"""FLOPs against published numbers (torchtitan, Megatron), and when there is no utilisation at all."""

from __future__ import annotations

import pytest

from footplate_trainer.metrics.flops import (
    Convention,
    flops_per_token,
    hardware_flops_per_token,
    peak_tflops,
    utilisation,
)
from footplate_trainer.metrics.meters import UtilisationMeter
from footplate_trainer.shape import ModelShape


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
    hardware = hardware_flops_per_token(network, 8192, Convention.FULL)
    assert hardware / 1e9 == pytest.approx(full * 4 / 3, rel=2e-5)


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


def test_utilisation_of_a_step() -> None:
    meter = UtilisationMeter(EIGHT, 8192, step_tokens=8 * 8192, devices=8, tflops=989.4)
    fields = meter.fields(8192 / 5762)
    assert fields["mfu"] == pytest.approx(0.337, abs=5e-4)
    assert fields["mfu_causal"] == pytest.approx(0.337 * 51.47 / 57.914, abs=5e-4)


def test_an_unknown_peak_gives_no_utilisation() -> None:
    assert UtilisationMeter(EIGHT, 8192, 8192, 1, tflops=None).fields(1.0) == {}
