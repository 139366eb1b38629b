"""Noise on embeddings while a model is fine-tuned (NEFTune, Jain et al. 2023, arXiv 2310.05914).

Each number of an embedding gets U(-1, 1) x alpha / root of (length x hidden). The length is that of the
token's own document. The paper, transformers and TRL use the length to which the row is padded, so that there
the noise depends on the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from footplate_trainer.model.dropout import BITS, DropoutSeed, HashRandomModule


class EmbeddingNoise(HashRandomModule):
    """Module that adds the noise in training; the noise is drawn by hash, like dropout masks."""

    def __init__(self, alpha: float) -> None:
        super().__init__("embedding.noise")
        self.alpha = alpha

    def forward(
        self, x: Tensor, lengths: Tensor, seed: DropoutSeed | None, positions: Tensor | None = None
    ) -> Tensor:
        """Add noise to x [batch, length, hidden]; `lengths` [batch, length] of each token's document."""
        if not (self.training and self.alpha > 0):
            return x
        assert seed is not None, "noise needs to know step and samples"
        uniform = self.random_integers(x.shape, x.device, seed, positions).float() * (2.0 / (1 << BITS)) - 1.0
        size = self.alpha / (lengths.float() * x.shape[-1]).sqrt()
        return x + (uniform * size[..., None]).to(x.dtype)


def document_lengths(documents: Tensor) -> Tensor:
    """Count the row's tokens that are in each token's document: int64 [batch, length].

    `documents` [batch, length] numbers the document of each token, from -1 on, below the length.
    """
    numbers = documents.long() + 1
    counts = torch.zeros(len(numbers), numbers.shape[1] + 2, dtype=torch.int64, device=documents.device)
    counts.scatter_add_(1, numbers, torch.ones_like(numbers))
    return counts.gather(1, numbers)
