"""Text generation with a trained model, token by token with a key/value cache."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from footplate_trainer.model.decoder import Decoder


@dataclass(frozen=True)
class SamplingOptions:
    """Parameters of sampling; temperature 0 selects the most likely token."""

    temperature: float = 0.8
    top_k: int = 0  # 0: all, as a rollout does unless it is told otherwise
    seed: int = 0


@torch.inference_mode()
def generate_tokens(
    model: Decoder, prompt: list[int], tokens: int, sampling: SamplingOptions, ends: Collection[int] = ()
) -> Iterator[int]:
    """Yield at most `tokens` ids after `prompt`; stop before any of `ends` and at the end of the context.

    A prompt longer than the context loses its beginning.
    """
    context = model.shape.context
    generator = torch.Generator().manual_seed(sampling.seed)
    fed = torch.tensor([prompt[-context:]])
    caches = model.new_caches(batch=1, length=context)
    for _ in range(tokens):
        if caches[0].filled + fed.shape[1] > context:
            return
        logits = model(fed, caches=caches)[0, -1]
        token = sample_token(logits, sampling, generator)
        if token in ends:
            return
        yield token
        fed = torch.tensor([[token]])


def sample_token(logits: Tensor, sampling: SamplingOptions, generator: torch.Generator) -> int:
    """Sample an id from `logits` [vocabulary]."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    if sampling.top_k and sampling.top_k < logits.numel():
        least = logits.topk(sampling.top_k).values[-1]
        logits = logits.masked_fill(logits < least, -torch.inf)
    shares = torch.softmax(logits / sampling.temperature, dim=-1)
    return int(torch.multinomial(shares, 1, generator=generator))
