"""Answers of an engine, and the log-probabilities that a training pass computes of the same tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from footplate_trainer.generation.requests import GeneratedAnswer
from footplate_trainer.model.decoder import Decoder
from footplate_trainer.model.head_chunks import IGNORED, VocabularyShard
from footplate_trainer.model.inputs import Inputs
from footplate_trainer.model.targets import Targets
from footplate_trainer.model.token_loss import ScoreRequest, token_scores

Place = tuple[int, slice]
"""A row, and where in it an answer's tokens are predicted."""


def packed(answers: Iterable[GeneratedAnswer], length: int) -> tuple[Inputs, Targets, list[Place]]:
    """Prompts with their answers, one behind another in rows of `length`; and where each answer is."""
    rows: list[list[GeneratedAnswer]] = [[]]
    used = 0
    for answer in answers:
        size = len(answer.request.tokens) + len(answer.tokens)
        if used + size > length:
            rows.append([])
            used = 0
        rows[-1].append(answer)
        used += size
    tokens = torch.zeros(len(rows), length, dtype=torch.int64)
    documents, labels = torch.full_like(tokens, -1), torch.full_like(tokens, IGNORED)
    places = []
    for number, row in enumerate(rows):
        first = 0
        for document, answer in enumerate(row):
            sequence = torch.tensor([*answer.request.tokens, *answer.tokens])
            end = first + len(sequence)
            tokens[number, first:end], documents[number, first:end] = sequence, document
            where = slice(first + len(answer.request.tokens) - 1, end - 1)
            labels[number, where] = torch.tensor(answer.tokens)
            places.append((number, where))
            first = end
    real = torch.ones(len(rows), dtype=torch.bool)
    targets = Targets(labels, documents.int(), torch.zeros(len(rows)), real)
    return Inputs(tokens, documents), targets, places


def recomputed(
    model: Decoder, inputs: Inputs, labels: Tensor, asked: ScoreRequest, micro_batch: int
) -> Tensor:
    """Scores of each label, `micro_batch` rows at a time: fp32 [numbers, rows, length]."""
    vocabulary = VocabularyShard(len(model.head_weight), tiles=model.tiles)
    found = []
    for some in micro_batches(len(labels), micro_batch):
        assert inputs.documents is not None
        with torch.no_grad():
            (hidden,) = model.forward_stage(inputs=Inputs(inputs.tokens[some], inputs.documents[some]))
        found.append(
            token_scores(hidden, model.head_weight, labels[some], asked=asked, vocabulary=vocabulary)
        )
    return torch.cat(found, 1)


def micro_batches(rows: int, size: int) -> Iterator[slice]:
    """`rows` cut into micro-batches."""
    return (slice(first, first + size) for first in range(0, rows, size))
