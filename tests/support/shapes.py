"""A small network of each family."""

from __future__ import annotations

import torch
from torch import nn

from footplate_contracts.families import resolve_model
from footplate_contracts.v1alpha1.model import Family, Model, RopeScaling
from footplate_planning.config import shape_of
from footplate_planning.shape import ModelShape
from footplate_trainer.model.initialize import initialize_rows

SIZES = {
    "layers": 2,
    "hidden_size": 32,
    "attention_heads": 4,
    "vocabulary_size": 99,
    "context_length": 24,
}
STRETCH = RopeScaling(factor=8.0, original_context_length=12)


def model_of(family: Family, **changes: object) -> Model:
    """A resolved spec.model: two layers of 32, four heads of 8."""
    return resolve_model(Model.model_validate({"family": family, **SIZES, **changes}))


def shape_like(family: Family, **changes: object) -> ModelShape:
    """Its shape."""
    return shape_of(model_of(family, **changes))


def fill(model: nn.Module, standard_deviation: float = 0.2) -> None:
    """Initial weights, wide enough that a difference shows."""
    for name, parameter in model.named_parameters():
        initialize_rows(parameter, name, 0, seed=5, standard_deviation=standard_deviation)


def some_tokens(batch: int = 2, length: int = 24, seed: int = 1) -> torch.Tensor:
    """Token ids [batch, length] below the vocabulary's 99."""
    return torch.randint(99, (batch, length), generator=torch.Generator().manual_seed(seed))
