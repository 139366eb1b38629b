"""A reward function that computes what a reward model does, by a network of plain torch."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from tests.support.plain_llama import Sizes, outputs, random_weights, tokenizer

EVEN = Sizes(vocabulary=260)  # that two tensor ranks can share
SEED = 17


@cache
def weights() -> dict[str, Tensor]:
    """Those of the reward model."""
    return random_weights(SEED, "score", EVEN)


def score(prompt_ids: list[list[int]], completion_ids: list[list[int]], ends: list[str]) -> list[float]:
    """The output at the last token: where an answer has its end, at the line end that the template adds."""
    line_end = tokenizer().encode("\n").ids
    texts = [
        [*asked, *said, *(line_end if why == "end" else [])]
        for asked, said, why in zip(prompt_ids, completion_ids, ends, strict=True)
    ]
    with torch.inference_mode():
        return [outputs(weights(), ids, EVEN)[-1, 0].item() for ids in texts]
