"""Which weights decay: matrices, embeddings among them, but neither norms nor biases.

Those are vectors. A norm weight has no scale to hold down, and a bias no
capacity to limit. Embeddings decay, as GPT-2's, Llama's and BERT's usual recipes
have it; a tied embedding is the output head as well.
"""

from __future__ import annotations

from torch import Tensor

from footplate_contracts.v1alpha1.training import Optimizer


def decay_of(parameter: Tensor, settings: Optimizer) -> float:
    """The weight decay of `parameter` under resolved `settings`."""
    assert settings.weight_decay is not None, "resolve() fills this in"
    return settings.weight_decay if parameter.ndim > 1 else 0.0
