"""The oracle of PPO has the known answers, agrees with our formulas on numbers of any kind, and learns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from bench.posttraining.parity.textbook import (
    Episode,
    Experience,
    Settings,
    Textbook,
    adapted,
    advantages,
    divergence,
    policy_loss,
    value_loss,
)
from torch import Tensor

from footplate_trainer.model.objectives import kl_estimators as estimates
from footplate_trainer.model.objectives.advantages import (
    gae,
    position_count_after_end,
    position_count_at_end,
    token_rewards,
)
from footplate_trainer.model.objectives.advantages import whiten as ours_whitened
from footplate_trainer.model.objectives.kl_estimators import adaptive_coefficient
from footplate_trainer.model.objectives.policy import clipped_policy_loss
from footplate_trainer.model.objectives.value import clipped_value_loss
from tests.support.formulas import agrees, exact
from tests.support.plain_llama import Sizes, Weights, outputs, random_weights

SMALL = Sizes(width=16, inner=16, layers=1, heads=1, vocabulary=8)

# -- known answers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rewards", "values", "known"),
    [
        pytest.param([0, 0, 1], [0.5, 0.4, 0.3], [0.43675, 0.565, 0.7], id="at-the-end"),
        pytest.param([0, 0, 0, 1], [0.5, 0.4, 0.3, 0.2], [0.40065, 0.527, 0.66, 0.8], id="after-the-end"),
        pytest.param([-0.005, 0.0025, 0.99], [0.5, 0.4, 0.3], [0.4251, 0.558, 0.69], id="with-k1"),
    ],
)
def test_known_advantages(rewards: list[float], values: list[float], known: list[float]) -> None:
    assert advantages(rewards, values, 1.0, 0.95) == pytest.approx(known, abs=1e-12)


def test_known_losses() -> None:
    plain, dual = Settings(), Settings(dual=3.0)
    for ratio, advantage, settings, known in [
        (1.5, 2.0, plain, -2.4),
        (0.5, -1.0, plain, 0.8),
        (5.0, -1.0, plain, 5.0),
        (5.0, -1.0, dual, 3.0),
        (1.5, 2.0, Settings(high=0.28), -2.56),
    ]:
        agrees(policy_loss(exact(ratio).log()[0], 0.0, advantage, settings), known, 1e-12)
    for value, known in [(0.6, 0.08), (0.9, 0.045), (0.1, 0.405)]:
        agrees(value_loss(exact(value)[0], 0.5, 1.0, plain), known, 1e-12)


def test_known_divergences_and_coefficients() -> None:
    found = [divergence(-1.0, -1.5, name) for name in ("k1", "k2", "k3")]
    assert found == pytest.approx([0.5, 0.125, 0.106531], abs=5e-7)
    assert adapted(1.0, 0.2, 0.1, 256, 10_000) == pytest.approx(1.00512, abs=1e-12)
    assert adapted(1.0, 0.05, 0.1, 256, 10_000) == pytest.approx(0.99488, abs=1e-12)


# -- ours ------------------------------------------------------------------------------------------


def numbers(*shape: int, seed: int = 5) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("dual", [None, 3.0])
def test_ours_agrees_about_the_policys_loss(dual: float | None) -> None:
    log_ratio, known = numbers(2, 200).unbind()
    settings = Settings(low=0.1, high=0.3, dual=dual)
    expected = [policy_loss(r, 0.0, float(a), settings) for r, a in zip(log_ratio, known, strict=True)]
    agrees(clipped_policy_loss(log_ratio, known, 0.1, 0.3, dual)[0], expected, 1e-12)


def test_ours_agrees_about_the_values_loss() -> None:
    values, old, returns = numbers(3, 200).unbind()
    rows = zip(values, old.tolist(), returns.tolist(), strict=True)
    expected = [value_loss(value, before, gain, Settings()) for value, before, gain in rows]
    agrees(clipped_value_loss(values, old, returns, 0.2), expected, 1e-12)


@pytest.mark.parametrize("name", ["k1", "k2", "k3"])
def test_ours_agrees_about_divergence_and_its_coefficient(name: str) -> None:
    log_p, reference = numbers(2, 50).unbind()
    expected = [divergence(p, q, name) for p, q in zip(log_p.tolist(), reference.tolist(), strict=True)]
    agrees(getattr(estimates, name)(log_p, reference), expected, 1e-12)
    for seen in (0.01, 0.09, 0.3):
        assert adaptive_coefficient(0.2, seen, 0.1, 64, 1000) == pytest.approx(
            adapted(0.2, seen, 0.1, 64, 1000), abs=1e-15
        )


@pytest.mark.parametrize("after_end", [False, True])
def test_ours_agrees_about_a_rollout(after_end: bool) -> None:
    settings = Settings(gamma=0.9, lam=0.8, after_end=after_end, longest=4)
    episodes = [Episode([1, 2], [3, 4, 5], 0.7), Episode([2], [1, 1, 0, 6], -0.4), Episode([7], [3], 1.3)]
    known = book(settings).experience(episodes)

    width, tokens = 4, torch.tensor([3, 4, 1])
    places = position_count_after_end(tokens, 4) if after_end else position_count_at_end(tokens)
    log_p, reference, values = (
        padded([getattr(seen, name) for seen in known], width) for name in ("log_p", "reference", "values")
    )
    scores = exact(*(episode.score for episode in episodes))
    rewards = token_rewards(scores, estimates.k1(log_p, reference), settings.coefficient, places)
    raw, returns = gae(rewards, values, places, settings.gamma, settings.lam)
    counted = torch.arange(width) < tokens[:, None]
    agrees(returns, padded([seen.returns for seen in known], width), 1e-12)
    expected = padded([seen.advantages for seen in known], width)
    agrees(ours_whitened(raw, counted), expected, 1e-12)


def padded(rows: Sequence[Sequence[float]], width: int) -> Tensor:
    return exact(*([*row, *[0.0] * (width - len(row))] for row in rows))


# -- the loop ----------------------------------------------------------------------------------------


def book(settings: Settings, rate: float = 0.5) -> Textbook:
    def leaves(seed: int, head: str) -> dict[str, Tensor]:
        weights = random_weights(seed, head, SMALL)
        return {name: weight.double().requires_grad_() for name, weight in weights.items()}

    policy, value = leaves(0, "lm_head"), leaves(1, "score")
    reference = {name: weight.double() for name, weight in random_weights(2, "lm_head", SMALL).items()}
    optimizers = (torch.optim.SGD(policy.values(), rate), torch.optim.SGD(value.values(), rate))
    return Textbook(policy, value, reference, optimizers, settings, SMALL)


def test_at_the_first_update_the_loss_is_minus_the_mean_advantage() -> None:
    trained = book(Settings())
    known = trained.experience([Episode([1], [2, 3], 1.0), Episode([1], [4], 0.0)])
    before = [advantage for seen in known for advantage in seen.advantages]
    first = trained.update(known)
    assert first.policy_loss == pytest.approx(-math.fsum(before) / 3, abs=1e-12)
    assert first.policy_norm > 0 and first.value_norm > 0


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_kl_in_the_loss_is_not_in_the_reward(estimator: str) -> None:
    episodes = [Episode([1], [2, 3], 1.0), Episode([1], [4, 5], 0.5)]
    inside = Settings(in_loss=True, estimator=estimator, coefficient=0.3)
    without = book(replace(inside, coefficient=0.0))
    known = book(inside).experience(episodes)
    assert [seen.returns for seen in known] == [seen.returns for seen in without.experience(episodes)]
    apart = [number for seen in known for number in seen.divergence(estimator)]
    loss = book(inside).update(known).policy_loss
    assert loss == pytest.approx(without.update(known).policy_loss + 0.3 * math.fsum(apart) / 4, abs=1e-12)


def answered(trained: Textbook, generator: torch.Generator) -> Episode:
    """Three tokens from the policy; of the eight there are, the upper half is worth 1."""
    ids = [1]
    with torch.no_grad():
        for _ in range(3):
            logits = outputs(trained.policy, ids, SMALL)[-1]
            ids.append(int(torch.multinomial(logits.softmax(0), 1, generator=generator)))
    return Episode([1], ids[1:], float(sum(token >= 4 for token in ids[1:])))


def share_of_good_ones(weights: Weights) -> float:
    with torch.no_grad():
        return float(outputs(weights, [1, 5, 6], SMALL).softmax(-1)[:, 4:].sum(1).mean())


def test_it_learns_what_is_rewarded_and_kl_holds_it_back() -> None:
    def after(coefficient: float) -> float:
        trained = book(Settings(coefficient=coefficient), rate=0.4)
        trained.reference = {name: weight.detach().clone() for name, weight in trained.policy.items()}
        generator = torch.Generator().manual_seed(0)
        for _ in range(3):
            episodes = [answered(trained, generator) for _ in range(8)]
            trained.learn(episodes, [[range(4), range(4, 8)], [range(2, 6), [0, 1, 6, 7]]])
        return share_of_good_ones(trained.policy)

    start, free, held = share_of_good_ones(book(Settings()).policy), after(0.0), after(2.0)
    assert free > start + 0.2, (start, held, free)
    assert held < free - 0.1, (start, held, free)


def test_an_experience_tells_its_divergence() -> None:
    seen = Experience(Episode([1], [2], 0.0), [-1.0], [-1.5], [0.0])
    assert seen.divergence("k1") == [0.5]
