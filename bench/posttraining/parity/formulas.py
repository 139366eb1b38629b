"""The loss of a step by our formulas, of log-probabilities that a model in plain torch computes.

Rows are as TRL takes them, and the tokens are those that it makes of them with the template of `plain_llama`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from bench.posttraining.parity.oracle import Rollout
from torch import Tensor

from footplate_trainer.model.objectives.advantages import group_deviation
from footplate_trainer.model.objectives.kl_estimators import k3
from footplate_trainer.model.objectives.policy import (
    clipped_policy_loss,
    sequence_log_ratio,
    sequence_mean,
    token_mean,
)
from footplate_trainer.model.objectives.preference import (
    centering_penalty,
    ipo_average_loss,
    kto_divergence,
    kto_loss,
    orpo_loss,
    pairwise_loss,
    simpo_loss,
)
from tests.support.plain_llama import END, Weights, log_probabilities, outputs, rendered, tokenizer

Row = Mapping[str, Any]
Formula = Callable[[Tensor, Tensor], Tensor]
Loss = Callable[[Weights, Weights, Sequence[Row]], Tensor]
"""Of weights, of those of the reference, and of the step's rows."""

ENCODED: Final = tokenizer()
GROUP: Final = 4  # siblings


def opened(prompt: Any) -> list[int]:
    return ENCODED.encode(rendered(prompt, opened=True)).ids


def sequence(prompt: Any, reply: Any, *, ends: bool = False) -> list[int]:
    """The tokens of both; `ends`: with an end of text behind the template's last line end."""
    ids = ENCODED.encode(rendered([*prompt, *reply])).ids
    return [*ids, ENCODED.token_to_id(END)] if ends else ids


def answer(weights: Weights, prompt: Any, reply: Any, *, ends: bool = False) -> Tensor:
    """log p of the reply's tokens."""
    return log_probabilities(weights, sequence(prompt, reply, ends=ends), len(opened(prompt)))


def of_each(rows: Sequence[Row], value: Callable[[Row], Tensor]) -> Tensor:
    return torch.stack([value(row) for row in rows])


def of_pairs(formula: Formula, weights: Weights, start: Weights, rows: Any) -> Tensor:
    """Mean over the step's pairs of a formula of log-ratios."""
    sides = [
        of_each(rows, lambda row, side=side: log_ratio(weights, start, row["prompt"], row[side]))
        for side in ("chosen", "rejected")
    ]
    return formula(*sides).sum() / len(rows)


def log_ratio(weights: Weights, start: Weights, prompt: Any, reply: Any) -> Tensor:
    with torch.no_grad():
        reference = answer(start, prompt, reply).sum()
    return answer(weights, prompt, reply).sum() - reference


def ipo(weights: Weights, start: Weights, rows: Any) -> Tensor:
    chosen, rejected = (
        torch.tensor([len(sequence(row["prompt"], row[side])) - len(opened(row["prompt"])) for row in rows])
        for side in ("chosen", "rejected")
    )
    return of_pairs(lambda c, r: ipo_average_loss(c, r, chosen, rejected, 0.1), weights, start, rows)


def kto(weights: Weights, start: Weights, rows: Any, undesirable: float = 1.0) -> Tensor:
    desirable = torch.tensor([row["label"] for row in rows])
    with torch.no_grad():
        # The first prompt is joined with the last answer, each other one with the answer before its own.
        apart = [
            log_ratio(weights, start, row["prompt"], rows[place - 1]["completion"])
            for place, row in enumerate(rows)
        ]
    ratios = of_each(rows, lambda row: log_ratio(weights, start, row["prompt"], row["completion"]))
    divergence = kto_divergence(torch.stack(apart))
    return kto_loss(ratios, desirable, divergence, 0.1, (1.0, undesirable)).sum() / len(rows)


def means(weights: Weights, rows: Any) -> tuple[Tensor, Tensor]:
    """Of log p over the tokens of chosen and of rejected answers."""
    chosen, rejected = (
        of_each(rows, lambda row, side=side: answer(weights, row["prompt"], row[side], ends=True).mean())
        for side in ("chosen", "rejected")
    )
    return chosen, rejected


def orpo(weights: Weights, start: Weights, rows: Any) -> Tensor:
    tokens = torch.cat(
        [log_probabilities(weights, sequence(row["prompt"], row["chosen"], ends=True)) for row in rows]
    )
    chosen, rejected = means(weights, rows)
    return orpo_loss(chosen, rejected, 0.1).sum() / len(rows) - tokens.sum() / len(tokens)


def simpo(weights: Weights, start: Weights, rows: Any) -> Tensor:
    chosen, rejected = means(weights, rows)
    return simpo_loss(chosen, rejected, 2.0, 0.5).sum() / len(rows)


def reward(weights: Weights, start: Weights, rows: Any) -> Tensor:
    chosen, rejected = (
        of_each(
            rows,
            lambda row, side=side: outputs(weights, sequence(row["prompt"], row[side]))[-1, 0],
        )
        for side in ("chosen", "rejected")
    )
    margins = torch.tensor([row["margin"] for row in rows], dtype=torch.float64)
    losses = pairwise_loss(chosen, rejected, margins) + 0.01 * centering_penalty(chosen, rejected)
    return losses.sum() / len(rows)


def sft(which: str, weights: Weights, start: Weights, rows: Any) -> Tensor:
    """Token mean of the step, over what the mask of that name marks."""
    losses = []
    for row in rows:
        messages = row.get("messages") or row["prompt"] + row["completion"]
        ids = ENCODED.encode(rendered(messages)).ids
        first = 1 if which == "all" else len(opened(messages[:1]))
        last = len(ids) - (which == "assistant")  # the line end behind a turn belongs to nobody
        losses.append(-log_probabilities(weights, ids[:last], first))
    tokens = torch.cat(losses)
    return tokens.sum() / len(tokens)


# -- of answers that were sampled ----------------------------------------------------------------


@dataclass(frozen=True)
class Policy:
    """How the answers of a rollout make a loss, by our names."""

    advantage: Callable[[Tensor, Tensor], Tensor] = group_deviation
    aggregation: Callable[[Tensor], Tensor] = sequence_mean
    high: float = 0.2
    divergence: float = 0.0  # k3, in the loss
    ratios: str = "token"

    def loss(self, weights: Weights, old: Weights, start: Weights, rollout: Rollout) -> Tensor:
        now = self._log_p(weights, rollout)
        with torch.no_grad():
            then, reference = self._log_p(old, rollout), self._log_p(start, rollout)
        rewards = torch.tensor(rollout.rewards, dtype=torch.float64).view(-1, GROUP)
        advantages = self.advantage(rewards, torch.ones_like(rewards, dtype=torch.bool)).flatten()
        tokens = torch.tensor([len(ids) for ids in rollout.answers])
        weighing = self.aggregation(tokens)
        summed = torch.zeros((), dtype=torch.float64)
        for n, log_p in enumerate(now):
            ratio = log_p - then[n]
            if self.ratios == "sequence":
                ratio = sequence_log_ratio(log_p.sum(), then[n].sum(), tokens[n]).expand_as(log_p)
            losses, _ = clipped_policy_loss(ratio, advantages[n], 0.2, self.high)
            summed = summed + weighing[n] * (losses + self.divergence * k3(log_p, reference[n])).sum()
        return summed / (tokens.sum() if self.aggregation is token_mean else len(tokens))

    def _log_p(self, weights: Weights, rollout: Rollout) -> list[Tensor]:
        asked = zip(rollout.prompts, rollout.answers, strict=True)
        return [log_probabilities(weights, [*prompt, *ids], len(prompt)) for prompt, ids in asked]
