"""PPO as a textbook has it, in one process, with no code of ours: the oracle of the stage `ppo`.

Numbers are Python floats but for what is differentiated, sums are written out where the product has a
recursion, and each sequence is computed alone. Policy, reference and value model are weights of
`plain_llama`; a value model has the head `score`. Nothing is sampled here: episodes are given.

Sources: Schulman et al. 2016 (GAE) and 2017 (clipping), Ziegler et al. 2019 (KL in the reward, its adaptive
coefficient), Schulman 2020 (k1, k2, k3), Ye et al. 2020 (dual clip).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim import Optimizer

from tests.support.plain_llama import TINY, Sizes, Weights, log_probabilities, outputs


@dataclass(frozen=True)
class Settings:
    """What may be chosen; the defaults are those of the stage."""

    gamma: float = 1.0
    lam: float = 0.95
    coefficient: float = 0.05  # of KL
    estimator: str = "k1"
    in_loss: bool = False  # the KL, which else is in the reward
    after_end: bool = False  # where the score is
    longest: int = 16  # tokens of an answer
    low: float = 0.2
    high: float = 0.2
    dual: float | None = None
    value_clip: float = 0.2
    value_weight: float = 0.1


@dataclass(frozen=True)
class Episode:
    """A prompt, what was answered, and what that is worth."""

    prompt: Sequence[int]
    answer: Sequence[int]
    score: float


@dataclass(frozen=True)
class Update:
    """One step of both optimizers."""

    policy_loss: float
    value_loss: float  # with its weight
    policy_norm: float
    value_norm: float


# -- single numbers ----------------------------------------------------------------------------


def divergence(log_p: float, reference: float, estimator: str) -> float:
    """k1, k2 or k3 of one token."""
    apart = log_p - reference
    return {"k1": apart, "k2": apart**2 / 2, "k3": math.exp(-apart) - 1 + apart}[estimator]


def advantages(rewards: Sequence[float], values: Sequence[float], gamma: float, lam: float) -> list[float]:
    """Of each place of one answer: the discounted sum of what surprised from there on."""
    following = [*values[1:], 0.0]
    surprises = [r + gamma * v - now for r, v, now in zip(rewards, following, values, strict=True)]
    return [
        sum((gamma * lam) ** (k - place) * surprises[k] for k in range(place, len(surprises)))
        for place in range(len(surprises))
    ]


def whitened(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    """Less the mean of all, divided by the root of their unbiased variance + 1e-8."""
    everything = [number for row in rows for number in row]
    mean = math.fsum(everything) / len(everything)
    variance = math.fsum((number - mean) ** 2 for number in everything) / (len(everything) - 1)
    return [[(number - mean) / math.sqrt(variance + 1e-8) for number in row] for row in rows]


def adapted(coefficient: float, seen: float, target: float, episodes: int, horizon: int) -> float:
    """Ziegler's controller."""
    error = min(max(seen / target - 1, -0.2), 0.2)
    return coefficient * (1 + error * episodes / horizon)


# -- what is differentiated ----------------------------------------------------------------------


def policy_loss(log_p: Tensor, old: float, advantage: float, settings: Settings) -> Tensor:
    """Of one token, without KL: scalar."""
    ratio = torch.exp(log_p - old)
    loss = torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - settings.low, 1 + settings.high))
    if settings.dual is not None and advantage < 0:
        loss = loss.clamp(max=-advantage * settings.dual)
    return loss


def value_loss(value: Tensor, old: float, gain: float, settings: Settings) -> Tensor:
    """Of one place, without its weight: scalar."""
    near = value.clamp(old - settings.value_clip, old + settings.value_clip)
    return torch.maximum((value - gain) ** 2, (near - gain) ** 2) / 2


def divergence_loss(log_p: Tensor, reference: float, estimator: str) -> Tensor:
    """k1, k2 or k3 of one token: scalar."""
    apart = reference - log_p
    return {"k1": -apart, "k2": apart**2 / 2, "k3": torch.exp(apart) - 1 - apart}[estimator]


# -- the loop --------------------------------------------------------------------------------------


@dataclass
class Experience:
    """An episode with what was known of it when it was sampled."""

    episode: Episode
    log_p: list[float]
    reference: list[float]
    values: list[float]
    advantages: list[float] = field(default_factory=list)  # of tokens, whitened
    returns: list[float] = field(default_factory=list)  # of places

    def divergence(self, estimator: str) -> list[float]:
        """Of each token."""
        pairs = zip(self.log_p, self.reference, strict=True)
        return [divergence(now, then, estimator) for now, then in pairs]


@dataclass
class Textbook:
    """A policy and its value model in training; weights are leaves that collect gradients."""

    policy: Mapping[str, Tensor]
    value: Mapping[str, Tensor]
    reference: Weights
    optimizers: tuple[Optimizer, Optimizer]  # of policy and value
    settings: Settings = Settings()
    sizes: Sizes = TINY

    def experience(self, episodes: Sequence[Episode]) -> list[Experience]:
        """What is known of a rollout before anything is learnt from it."""
        with torch.no_grad():
            known = [
                Experience(
                    episode,
                    self._log_p(self.policy, episode).tolist(),
                    self._log_p(self.reference, episode).tolist(),
                    self._values(episode).tolist(),
                )
                for episode in episodes
            ]
        raw = []
        for experience in known:
            rewards = self._rewards(experience)
            gained = advantages(rewards, experience.values, self.settings.gamma, self.settings.lam)
            experience.returns = [a + v for a, v in zip(gained, experience.values, strict=True)]
            raw.append(gained[: len(experience.episode.answer)])
        for experience, row in zip(known, whitened(raw), strict=True):
            experience.advantages = row
        return known

    def update(self, known: Sequence[Experience]) -> Update:
        """One optimizer step of each model, on one mini-batch."""
        tokens = sum(len(seen.advantages) for seen in known)
        places = sum(len(seen.returns) for seen in known)
        of_policy = torch.stack([self._policy_loss(seen) for seen in known]).sum() / tokens
        of_value = torch.stack([self._value_loss(seen) for seen in known]).sum() / places
        of_value = self.settings.value_weight * of_value
        norms = []
        for loss, optimizer in zip((of_policy, of_value), self.optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
            leaves = [leaf for group in optimizer.param_groups for leaf in group["params"]]
            norms.append(math.sqrt(sum(float(leaf.grad.square().sum()) for leaf in leaves)))
            optimizer.step()
        return Update(of_policy.item(), of_value.item(), *norms)

    def learn(self, episodes: Sequence[Episode], order: Sequence[Sequence[Sequence[int]]]) -> list[Update]:
        """All updates of a rollout: of each epoch its mini-batches, as numbers of episodes."""
        known = self.experience(episodes)
        return [self.update([known[number] for number in batch]) for epoch in order for batch in epoch]

    def _rewards(self, seen: Experience) -> list[float]:
        inside = 0.0 if self.settings.in_loss else self.settings.coefficient
        rewards = [-inside * apart for apart in seen.divergence(self.settings.estimator)]
        rewards += [0.0] * (len(seen.values) - len(rewards))
        rewards[-1] += seen.episode.score
        return rewards

    def _policy_loss(self, seen: Experience) -> Tensor:
        losses = []
        for place, log_p in enumerate(self._log_p(self.policy, seen.episode)):
            loss = policy_loss(log_p, seen.log_p[place], seen.advantages[place], self.settings)
            if self.settings.in_loss:
                apart = divergence_loss(log_p, seen.reference[place], self.settings.estimator)
                loss = loss + self.settings.coefficient * apart
            losses.append(loss)
        return torch.stack(losses).sum()

    def _value_loss(self, seen: Experience) -> Tensor:
        values = zip(self._values(seen.episode), seen.values, seen.returns, strict=True)
        return torch.stack([value_loss(value, old, gain, self.settings) for value, old, gain in values]).sum()

    def _log_p(self, weights: Weights, episode: Episode) -> Tensor:
        ids = [*episode.prompt, *episode.answer]
        return log_probabilities(weights, ids, len(episode.prompt), self.sizes)

    def _values(self, episode: Episode) -> Tensor:
        """V before each token of the answer; where the score is behind the end, V there too."""
        tokens, room = len(episode.answer), self.settings.longest
        places = min(tokens + 1, room) if self.settings.after_end else tokens
        first = len(episode.prompt) - 1
        given = outputs(self.value, [*episode.prompt, *episode.answer], self.sizes)
        return given[first : first + places, 0]
