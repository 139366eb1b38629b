"""Sampling of the next token: a pure function of logits and one number in [0, 1).

The number is a hash of (seed, step, prompt, sibling, index in the answer). So a
sample is the same with any neighbours, on any rank, and in any
repetition. The sampled token is the interval that contains the number when the
allowed tokens are lined up in the order of their ids, each as wide as its probability.

Two log-probabilities go with it. A ratio of policies compares like with like:
the log-probability in the distribution that was sampled from, truncated as it is, is
that of the draw; the log-probability in the model's whole distribution is the one that
training computes again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from footplate_trainer.data.order import Float64s, uniforms
from footplate_trainer.errors import NumericalDivergence
from footplate_trainer.model.head_chunks import row_logsumexp
from footplate_trainer.model.tiles import Tiles

COLDEST: Final = 1e-6  # a smaller temperature, other than 0, makes logits infinite
NOT_FINITE: Final = "the logits of the next token are not finite, so it cannot be sampled"
_MOST_LIKELY: Final = 1024  # so many are sorted at first; mostly the share of top-p is among them


@dataclass(frozen=True)
class SamplingRule:
    """Rules of sampling, in the order of application; the defaults are the model's own distribution."""

    repetition_penalty: float = 1.0  # divides positive logits of tokens before, multiplies negative ones
    temperature: float = 1.0  # 0: the most likely token, of equals that with the lowest id
    top_k: int = 0  # none less likely than the k-th; 0: all
    top_p: float = 1.0  # the fewest most likely tokens that have this share
    min_p: float = 0.0  # none less likely than this share of the most likely one's probability
    ids: int | None = None  # none but those below it: a model may have more rows than there are tokens

    @property
    def is_untruncated(self) -> bool:
        """True if each of its `ids` may be sampled, and only a temperature changes probabilities."""
        none_left_out = self.top_k == 0 and self.top_p == 1 and self.min_p == 0
        return none_left_out and self.repetition_penalty == 1 and self.temperature > 0

    def __post_init__(self) -> None:
        wrong = {
            "repetitionPenalty": (self.repetition_penalty, 0 < self.repetition_penalty < math.inf, "above 0"),
            "temperature": (
                self.temperature,
                self.temperature == 0 or COLDEST <= self.temperature < math.inf,
                f"0, or at least {COLDEST:g}",
            ),
            "topK": (self.top_k, self.top_k >= 0, "at least 0"),
            "topP": (self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1"),
            "minP": (self.min_p, 0 <= self.min_p <= 1, "0 to 1"),
        }
        for name, (value, fits, wanted) in wrong.items():
            if not fits:
                raise ValueError(f"{name} is {value:g}; it must be {wanted}")


@dataclass(frozen=True)
class SampledTokens:
    """Sampled tokens, one of each of n answers."""

    tokens: Tensor  # int64 [n]
    sampled: Tensor  # fp32 [n]: log-probability among what could be drawn
    full: Tensor  # fp32 [n]: log-probability as the model has it


def sampling_uniforms(seed: int, step: int, prompt: int, sibling: int, count: int) -> Float64s:
    """Return the numbers that decide the first `count` tokens of an answer: float64 [count]."""
    message = b"".join(number.to_bytes(8, "little", signed=True) for number in (step, prompt, sibling))
    index = int.from_bytes(hashlib.blake2b(message, digest_size=8).digest(), "little", signed=True)
    return uniforms(seed, "sample", index, count)


def sample_tokens(
    logits: Tensor,
    rule: SamplingRule,
    before: Sequence[Sequence[int]],
    chance: Tensor,
    tiles: Tiles | None = None,
    ranks: int = 1,
) -> SampledTokens:
    """Sample the next token of n sequences.

    `logits` [n, vocabulary] of any float dtype; `before` the tokens of each sequence, which only a
    repetition penalty reads; `chance` float64 [n] in [0, 1). A row's result depends on that row only, in
    `tiles` to the last bit, and equals that of a loss whose vocabulary as many `ranks` share.

    Raises NumericalDivergence if logits are NaN or without an upper bound.
    """
    logits = logits.float()
    weights = _weights(_penalised(logits, rule.repetition_penalty, before)[:, : rule.ids], rule)
    upto = weights.cumsum(-1)
    total = upto[:, -1:]
    last = (upto < total).sum(-1)  # rounding must not lead behind it
    tokens = torch.searchsorted(upto, chance[:, None] * total, right=True).squeeze(1).minimum(last)
    full = sampled = _log_probabilities(logits, tokens, tiles, ranks)
    if rule.is_untruncated and weights.shape == logits.shape:
        if rule.temperature != 1:
            sampled = _log_probabilities(logits / rule.temperature, tokens, tiles, ranks)
    else:
        sampled = (weights.gather(1, tokens[:, None]) / total).log().squeeze(1)
    if not bool(full.isfinite().all()):
        raise NumericalDivergence(NOT_FINITE)
    return SampledTokens(tokens, sampled.float(), full)


def _log_probabilities(logits: Tensor, tokens: Tensor, tiles: Tiles | None, ranks: int) -> Tensor:
    """Compute log-probabilities in the same steps as the loss: equal logits then give equal bits."""
    normaliser = row_logsumexp(logits, tiles)
    if ranks > 1:
        of_ranks = [row_logsumexp(part.contiguous(), tiles) for part in logits.chunk(ranks, dim=1)]
        normaliser = torch.stack(of_ranks).logsumexp(0)
    return logits.gather(1, tokens[:, None]).squeeze(1) - normaliser


def _penalised(logits: Tensor, penalty: float, before: Sequence[Sequence[int]]) -> Tensor:
    if penalty == 1:
        return logits
    seen = torch.zeros_like(logits, dtype=torch.bool)
    for row, tokens in enumerate(before):
        seen[row, torch.tensor(list(tokens), dtype=torch.int64, device=logits.device)] = True
    return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def _weights(logits: Tensor, rule: SamplingRule) -> Tensor:
    """Return unnormalised probabilities: fp64 [n, vocabulary], 0 for tokens that cannot be sampled."""
    highest = logits.amax(-1, keepdim=True)
    if rule.temperature == 0:
        ids = torch.arange(logits.shape[1], device=logits.device)
        first = torch.where(logits == highest, ids, logits.shape[1]).amin(-1, keepdim=True)
        return (ids == first).double()
    weights = logits.double().sub_(highest)
    if rule.temperature != 1:
        weights.div_(rule.temperature)
    weights.exp_()
    # Each of these is a pass over all logits: none that leaves nothing out.
    if 0 < rule.top_k < logits.shape[1]:
        weights.masked_fill_(logits < logits.topk(rule.top_k).values[:, -1:], 0.0)
    if rule.top_p < 1:
        weights.masked_fill_(weights < _least_of_share(weights, rule.top_p), 0.0)
    if rule.min_p > 0:
        weights.masked_fill_(weights < rule.min_p, 0.0)  # the most likely one's is 1
    return weights


def _least_of_share(weights: Tensor, share: float) -> Tensor:
    """Return the least of the fewest greatest weights that have `share` of all: [n, 1]."""
    wanted = share * weights.sum(-1, keepdim=True)
    for count in (min(_MOST_LIKELY, weights.shape[1]), weights.shape[1]):
        greatest = weights.topk(count).values
        upto = greatest.cumsum(-1)
        if count == weights.shape[1] or bool((upto[:, -1:] >= wanted).all()):
            break
    place = (upto < wanted).sum(-1, keepdim=True).clamp(max=weights.shape[1] - 1)
    return greatest.gather(1, place.clamp(max=count - 1))
