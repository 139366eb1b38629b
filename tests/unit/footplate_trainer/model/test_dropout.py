"""What is dropped depends on seed, step, sample and place, and on nothing else."""

from __future__ import annotations

import pytest
import torch

from footplate_contracts.v1alpha1.model import Family
from footplate_trainer.model.dropout import DropoutSeed, HashDropout
from footplate_trainer.model.network_factory import build_network
from tests.support.shapes import fill, shape_like, some_tokens

SAMPLES = torch.tensor([4, 9, 2])
SEED = DropoutSeed(seed=1, step=7, samples=SAMPLES)


def dropped(
    x: torch.Tensor, dropout_seed: DropoutSeed = SEED, site: str = "blocks.0", shard: int = 0
) -> torch.Tensor:
    layer = HashDropout(0.25, site)
    layer.sequence_shard = shard
    zeroed: torch.Tensor = layer(x, dropout_seed) == 0
    return zeroed


def test_the_share_and_the_mean_are_right() -> None:
    layer = HashDropout(0.25, "site")
    x = layer(torch.ones(3, 200, 500), SEED)

    assert (x == 0).float().mean().item() == pytest.approx(0.25, abs=2e-3)
    assert x.mean().item() == pytest.approx(1.0, abs=3e-3)


def test_neighbours_know_nothing_of_each_other() -> None:
    zeroed = dropped(torch.ones(3, 400, 400)).float() - 0.25

    for mask, other in (
        (zeroed[:, 1:], zeroed[:, :-1]),
        (zeroed[:, :, 1:], zeroed[:, :, :-1]),
        (zeroed[1:], zeroed[:-1]),
    ):
        assert abs((mask * other).mean().item() / (0.25 * 0.75)) < 0.01


@pytest.mark.parametrize(
    ("dropout_seed", "site"),
    [
        pytest.param(DropoutSeed(2, 7, SAMPLES), "blocks.0", id="seed"),
        pytest.param(DropoutSeed(1, 8, SAMPLES), "blocks.0", id="step"),
        pytest.param(DropoutSeed(1, 7, SAMPLES + 1), "blocks.0", id="sample"),
        pytest.param(SEED, "blocks.1", id="site"),
    ],
)
def test_another_key_drops_others(dropout_seed: DropoutSeed, site: str) -> None:
    x = torch.ones(3, 20, 20)

    assert torch.equal(dropped(x), dropped(x))
    assert (dropped(x, dropout_seed, site) == dropped(x)).float().mean().item() == pytest.approx(
        0.625, abs=0.05
    )


def test_a_part_of_the_batch_drops_its_part() -> None:
    x = torch.ones(3, 20, 20)

    assert torch.equal(dropped(x[1:2], DropoutSeed(1, 7, SAMPLES[1:2])), dropped(x)[1:2])


def test_a_shard_of_the_sequence_drops_its_part() -> None:
    x = torch.ones(3, 20, 20)

    assert torch.equal(dropped(x[:, 10:], shard=1), dropped(x)[:, 10:])
    layer, places = HashDropout(0.25, "blocks.0"), torch.tensor([3, 4, 17])
    assert torch.equal(layer(x[:, :3], SEED, places) == 0, dropped(x)[:, places])


def test_some_heads_drop_theirs() -> None:
    layer, weights = HashDropout(0.25, "attention"), torch.ones(3, 4, 10, 10)
    whole = layer(weights, SEED)
    layer.first_head = 2

    assert torch.equal(layer(weights[:, 2:], SEED), whole[:, 2:])
    assert not torch.equal(whole[:, 0], whole[:, 1])


@pytest.mark.parametrize("family", [Family.LLAMA, Family.BERT, Family.T5])
def test_a_network_drops_in_training_only(family: Family) -> None:
    dropout = {"hidden": 0.1, "attention": 0.1, "embedding": 0.1}
    model, plain = build_network(shape_like(family, dropout=dropout)), build_network(shape_like(family))
    fill(model)
    fill(plain)
    tokens, dropout_seed = some_tokens(3), SEED

    first = model(tokens, decoder_tokens=tokens, dropout_seed=dropout_seed)
    again = model(tokens, decoder_tokens=tokens, dropout_seed=dropout_seed)
    half = DropoutSeed(dropout_seed.seed, dropout_seed.step, SAMPLES[1:])

    assert torch.equal(first, again)
    torch.testing.assert_close(model(tokens[1:], decoder_tokens=tokens[1:], dropout_seed=half), first[1:])
    assert torch.equal(model.eval()(tokens, decoder_tokens=tokens), plain(tokens, decoder_tokens=tokens))
    assert not torch.allclose(first, plain(tokens, decoder_tokens=tokens))
