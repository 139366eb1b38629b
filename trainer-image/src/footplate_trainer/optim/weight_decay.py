"""Weight decay per parameter: matrices decay, embeddings included, but neither norms nor biases.

Norms and biases are vectors. A norm weight has no scale to restrain, and a bias no capacity to limit.
Embeddings decay, as in GPT-2's, Llama's and BERT's usual recipes; a tied embedding is the output head as
well.
"""

from __future__ import annotations

from torch import Tensor

from footplate_contracts.v1alpha1.training import Optimizer


def get_weight_decay(parameter: Tensor, settings: Optimizer) -> float:
    """Return the weight decay of `parameter` under resolved `settings`."""
    assert settings.weight_decay is not None, "resolve() fills this in"
    return settings.weight_decay if parameter.ndim > 1 else 0.0
