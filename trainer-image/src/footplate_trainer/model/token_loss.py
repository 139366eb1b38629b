"""Losses that are a function of the network's scores of each token, without storing all logits.

Every such loss uses only a few numbers of a token's logits: the log-probability of its label, perhaps the
entropy, perhaps the label's log-probability at a temperature. A `score` function takes these and returns a
scalar. Its derivatives by them, one coefficient for each number and token, are all that the gradients need,
so logits go through in chunks as they do for cross-entropy, and the head's and hidden states' gradients are
computed in the forward pass.

Where the loss is a sum over tokens, a chunk is scored and differentiated while its logits are in memory.
Where it needs whole sequences, all chunks are scored first, and then computed once more: one product with the
head more, and no more of the network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from footplate_planning.memory import loss_chunk
from footplate_trainer.model.head_chunks import (
    CPU_PIECE_BYTES,
    IGNORED,
    HeadChunks,
    HeadGradients,
    StoredGradients,
    VocabularyShard,
    cut_into_slices,
    row_logsumexp,
)

# Of a chunk's fp32 logits on another device: enough to keep it busy, and little beside the chunk.
_DEVICE_PIECE_BYTES = 2**26


@dataclass(frozen=True)
class ScoreRequest:
    """The scores of a token that a loss needs besides the log-probability of its label."""

    entropy: bool = False
    temperature: float | None = None  # the label's log-probability under softmax(logits / temperature)

    @property
    def score_count(self) -> int:
        """The number of scores per token in all."""
        return 1 + self.entropy + (self.temperature is not None)


@dataclass(frozen=True)
class TokenScores:
    """The network's scores of some tokens whose labels count: fp32 [tokens] each."""

    where: Tensor  # int64 [tokens], ascending: their places among all labels, flat
    log_probabilities: Tensor  # of the labels
    entropies: Tensor | None = None  # of the next token's distribution, in nats
    tempered: Tensor | None = None  # log-probabilities of the labels at the temperature asked for

    @property
    def score_tensors(self) -> list[Tensor]:
        """The requested scores, in this order."""
        given = (self.log_probabilities, self.entropies, self.tempered)
        return [numbers for numbers in given if numbers is not None]

    @classmethod
    def of(cls, where: Tensor, numbers: Tensor, asked: ScoreRequest) -> TokenScores:
        """Unpack fp32 [numbers, tokens], in the order of `score_tensors`."""
        rows = iter(numbers)
        return cls(
            where,
            next(rows),
            next(rows) if asked.entropy else None,
            next(rows) if asked.temperature is not None else None,
        )


Score = Callable[[TokenScores], Tensor]
"""A scalar from scores, by which it is differentiated: a sum over tokens or sequences."""


def summed_token_loss(
    hidden: Tensor,
    head: Tensor,
    labels: Tensor,
    score: Score,
    *,
    asked: ScoreRequest = ScoreRequest(),
    whole: bool = False,
    vocabulary: VocabularyShard | None = None,
    chunk: int | None = None,
) -> Tensor:
    """Return the result of `score`, summed over its calls: fp64 scalar.

    `hidden` [..., hidden], `head` [rows, hidden] and `labels` int64 [...] as for `summed_cross_entropy`;
    positions whose label is IGNORED are skipped, and cost nothing. `score` is called for each chunk of tokens
    or, where it needs `whole` sequences, once, with all tokens, even if there are none. Values and gradients
    over a shared head are as there.
    """
    flat, flat_labels, where = _counting(hidden, labels)
    plan = _Plan(
        where,
        flat_labels,
        score,
        asked,
        whole,
        vocabulary or VocabularyShard(head.shape[0]),
        chunk or loss_chunk(head.shape[0], head.device.type),
        torch.is_grad_enabled(),
    )
    summed: Tensor = _Judged.apply(flat, head, plan)
    return summed


@torch.no_grad()
def token_scores(
    hidden: Tensor,
    head: Tensor,
    labels: Tensor,
    *,
    asked: ScoreRequest = ScoreRequest(),
    vocabulary: VocabularyShard | None = None,
    chunk: int | None = None,
) -> Tensor:
    """Compute the requested scores of each label: fp32 [numbers, *labels]; 0 where none counts.

    In the order of Scores.
    """
    flat, flat_labels, where = _counting(hidden, labels)
    vocabulary = vocabulary or VocabularyShard(head.shape[0])
    size = chunk or loss_chunk(head.shape[0], head.device.type)
    scorer = _Scorer(flat, head, vocabulary, size, asked)
    found = torch.zeros(asked.score_count, labels.numel(), device=hidden.device)
    for tokens in cut_into_slices(len(where), size):
        statistics = scorer.statistics(scorer.logits(tokens), flat_labels[tokens])
        found[:, where[tokens]] = scorer.scores(statistics)
    return found.view(asked.score_count, *labels.shape)


def _counting(hidden: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Select hidden states and labels of the positions that count; also return these, int64 [tokens]."""
    flat, flat_labels = hidden.flatten(0, -2), labels.flatten()
    where = (flat_labels != IGNORED).nonzero().squeeze(1)
    if len(where) == len(flat_labels):
        return flat, flat_labels, where
    return flat.index_select(0, where), flat_labels[where], where


@dataclass(frozen=True)
class _Plan:
    """The arguments that autograd does not differentiate."""

    where: Tensor
    labels: Tensor
    score: Score
    asked: ScoreRequest
    whole: bool
    vocabulary: VocabularyShard
    chunk: int
    differentiate: bool


class _Judged(Function):
    """The sum, with all gradients computed in the forward pass."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, plan: _Plan) -> Tensor:
        scorer = _Scorer(hidden, head, plan.vocabulary, plan.chunk, plan.asked)
        of_head = ctx.needs_input_grad[1]
        grads = HeadGradients.zeros(hidden, head, of_head) if plan.differentiate else None
        total = _by_sequence(scorer, plan, grads) if plan.whole else _by_token(scorer, plan, grads)
        ctx.kept = StoredGradients(grads)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return (*ctx.kept.scaled_by(gradient), None)


def _by_token(scorer: _Scorer, plan: _Plan, grads: HeadGradients | None) -> Tensor:
    """Score each chunk, and differentiate it while its logits are in memory."""
    total = torch.zeros((), dtype=torch.float64, device=plan.where.device)
    for tokens in cut_into_slices(len(plan.where), plan.chunk):
        logits, labels = scorer.logits(tokens), plan.labels[tokens]
        statistics = scorer.statistics(logits, labels)
        scores = TokenScores.of(plan.where[tokens], scorer.scores(statistics), plan.asked)
        value, coefficients = _judged(plan.score, scores, plan.differentiate)
        total += value
        if grads is not None:
            scorer.to_slopes(logits, labels, statistics, coefficients)
            scorer.differentiate(tokens, logits, grads)
    return total


def _by_sequence(scorer: _Scorer, plan: _Plan, grads: HeadGradients | None) -> Tensor:
    """Compute the statistics of all chunks, then the score at once, then all gradients."""
    cut = cut_into_slices(len(plan.where), plan.chunk)
    found = [scorer.statistics(scorer.logits(tokens), plan.labels[tokens]) for tokens in cut]
    statistics = torch.cat([scorer.none, *found], 1)
    scores = TokenScores.of(plan.where, scorer.scores(statistics), plan.asked)
    value, coefficients = _judged(plan.score, scores, plan.differentiate)
    if grads is None:
        return value
    for tokens in cut:
        logits = scorer.logits(tokens)
        scorer.to_slopes(logits, plan.labels[tokens], statistics[:, tokens], coefficients[:, tokens])
        scorer.differentiate(tokens, logits, grads)
    return value


def _judged(score: Score, scores: TokenScores, differentiate: bool) -> tuple[Tensor, Tensor]:
    """Return the score, fp64 scalar, and its derivatives by a token's numbers, fp32 [numbers, tokens]."""
    if not differentiate:
        return score(scores).detach().double(), torch.empty(0)
    value, derivatives = value_and_gradients(score, scores)
    return value.double(), torch.stack(derivatives)


def value_and_gradients(score: Score, scores: TokenScores) -> tuple[Tensor, list[Tensor]]:
    """Return the result of `score`, and its derivatives by each number of `scores`, in their order."""
    with torch.enable_grad():
        leaves = [numbers.detach().requires_grad_() for numbers in scores.score_tensors]
        rest = iter(leaves)
        known = TokenScores(
            scores.where,
            next(rest),
            None if scores.entropies is None else next(rest),
            None if scores.tempered is None else next(rest),
        )
        value = score(known)
        if not value.requires_grad:  # no token, or none with a weight
            return value, [torch.zeros_like(leaf) for leaf in leaves]
        derivatives = torch.autograd.grad(value, leaves, materialize_grads=True)
    return value.detach(), list(derivatives)


class _Scorer(HeadChunks):
    """Converter of logits to token scores, and of derivatives by these to those of the logits.

    A token's statistics, fp32 [k, tokens], are over the whole vocabulary: log-normaliser Z, logit of the
    label and, where requested, the mean logit under the distribution, and Z at the temperature.
    """

    def __init__(
        self, hidden: Tensor, head: Tensor, vocabulary: VocabularyShard, chunk: int, asked: ScoreRequest
    ) -> None:
        super().__init__(hidden, head, vocabulary, chunk)
        self.asked = asked
        on_cpu = hidden.device.type == "cpu"
        self._piece = max(1, (CPU_PIECE_BYTES if on_cpu else _DEVICE_PIECE_BYTES) // (4 * max(1, self.rows)))
        self.none = torch.empty(1 + asked.score_count, 0, device=hidden.device)

    def statistics(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute statistics of logits [tokens, rows], which stay unchanged.

        One collective where ranks share the head.
        """
        here = torch.cat(
            [self.none, *(self._here(logits[cut], labels[cut]) for cut in self._pieces(logits))], 1
        )
        if self.vocabulary.gather is None:
            return here
        ranks = self.vocabulary.gather(here)
        whole = [ranks[:, 0].logsumexp(0), ranks[:, 1].sum(0)]
        if self.asked.entropy:
            whole.append((torch.exp(ranks[:, 0] - whole[0]) * ranks[:, 2]).sum(0))
        if self.asked.temperature is not None:
            whole.append(ranks[:, -1].logsumexp(0))
        return torch.stack(whole)

    def _pieces(self, logits: Tensor) -> list[slice]:
        return cut_into_slices(len(logits), self._piece)

    def _here(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the statistics over the local rows."""
        if not self.rows:
            nothing = logits.new_zeros(1 + self.asked.score_count, len(labels))
            nothing[0] = -torch.inf
            nothing[-1] = 0.0 if self.asked.temperature is None else -torch.inf
            return nothing
        mine, columns = self.label_columns(labels)
        tiles = self.vocabulary.tiles
        found = [row_logsumexp(logits, tiles), logits.gather(1, columns).squeeze(1) * mine]
        if self.asked.entropy:
            found.append((torch.exp(logits - found[0][:, None]) * logits).sum(-1))
        if self.asked.temperature is not None:
            found.append(row_logsumexp(logits / self.asked.temperature, tiles))
        return torch.stack(found)

    def scores(self, statistics: Tensor) -> Tensor:
        """Return fp32 [numbers, tokens] in the order of Scores."""
        normaliser, label, *rest = statistics
        found = [label - normaliser]
        if self.asked.entropy:
            found.append(normaliser - rest[0])
        if self.asked.temperature is not None:
            found.append(label / self.asked.temperature - rest[-1])
        return torch.stack(found)

    def to_slopes(self, logits: Tensor, labels: Tensor, statistics: Tensor, by: Tensor) -> None:
        """Turn logits [tokens, rows] into their gradient, from derivatives `by` scores [numbers, tokens].

        With shares p = softmax(z), mean m = sum p z and shares q at temperature T: d log p[label] = [label] -
        p;  d entropy = -p (z - m);  d log q[label] = ([label] - q) / T.
        """
        if not self.rows:
            return
        mine, columns = self.label_columns(labels)
        at_label = by[0].clone()
        temperature = self.asked.temperature
        if temperature is not None:
            at_label += by[-1] / temperature
        for cut in self._pieces(logits):
            here = logits[cut]
            of_tempered = self._of_tempered(here, statistics[:, cut], by[:, cut])
            normaliser = statistics[0, cut, None]
            if self.asked.entropy:
                shares = torch.exp(here - normaliser)
                here.sub_(statistics[2, cut, None]).mul_(-by[1, cut, None]).sub_(by[0, cut, None]).mul_(
                    shares
                )
            else:
                here.sub_(normaliser).exp_().mul_(-by[0, cut, None])
            if of_tempered is not None:
                here.sub_(of_tempered)
        logits.scatter_add_(1, columns, (mine * at_label)[:, None])

    def _of_tempered(self, logits: Tensor, statistics: Tensor, by: Tensor) -> Tensor | None:
        """Return the tempered distribution's part of the gradient, without the label's own part."""
        temperature = self.asked.temperature
        if temperature is None:
            return None
        shares = torch.exp(logits / temperature - statistics[-1, :, None])
        return shares.mul_(by[-1, :, None] / temperature)
