"""What `transformers` makes of exported models: log-probabilities of answers, and scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from torch import Tensor

_BATCH: Final = 50

Answered = tuple[list[int], list[int]]
"""The tokens of a prompt, and those of its answer."""


@torch.no_grad()
def log_probabilities(model: Path, answered: Sequence[Answered]) -> list[float]:
    """Of each answer, the sum over its tokens: what the model in `model` says at temperature 1."""
    writer = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    told: list[float] = []
    for some, ids in _batches(answered):
        logits = writer(input_ids=ids).logits.log_softmax(-1)
        of_places = logits[:, :-1].gather(2, ids[:, 1:, None])[..., 0]  # [sequences, places - 1]
        told += [
            float(row[len(prompt) - 1 : len(prompt) + len(answer) - 1].double().sum())
            for row, (prompt, answer) in zip(of_places, some, strict=True)
        ]
    return told


@torch.no_grad()
def scores(model: Path, answered: Sequence[Answered]) -> list[float]:
    """Of each prompt with its answer, what the reward model in `model` says at the last token."""
    judge: Any = transformers.AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32)
    told: list[float] = []
    for some, ids in _batches(answered):
        hidden = judge.model(input_ids=ids).last_hidden_state
        last = torch.tensor([len(prompt) + len(answer) - 1 for prompt, answer in some])
        told += judge.score(hidden[torch.arange(len(some)), last])[:, 0].tolist()
    return told


def _batches(answered: Sequence[Answered]) -> Iterator[tuple[Sequence[Answered], Tensor]]:
    """Some of them, with their tokens: int64 [sequences, places], filled up behind the last with zeros.

    No place looks behind itself, so what fills up is in nothing.
    """
    for first in range(0, len(answered), _BATCH):
        some = answered[first : first + _BATCH]
        rows = [torch.tensor([*prompt, *answer]) for prompt, answer in some]
        yield some, torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
