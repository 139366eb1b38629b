"""SGD, Adam and AdamW on this rank's rows.

These rules treat every number by itself, so they need not know that a parameter is sharded: torch's
optimizers get the local rows as plain tensors that share memory with the parameters. That avoids DTensor's
dispatch, which costs a tenth of a small model's step and most of a second at the first one, when ranks
restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from footplate_contracts.v1alpha1.training import Optimizer, OptimizerName
from footplate_trainer.parallel.data_parallel import dtensor_like
from footplate_trainer.parallel.local_shard import local_shard, trained_parameters


class ElementwiseOptimizer:
    """A fused torch optimizer over this rank's rows."""

    def __init__(self, model: nn.Module, settings: Optimizer) -> None:
        self._parameters = trained_parameters(model)
        self._rows = {name: local_shard(parameter).local for name, parameter in self._parameters.items()}
        groups: dict[float, list[Tensor]] = {0.0: []}  # torch wants a group also where all is frozen
        for name, parameter in self._parameters.items():
            groups.setdefault(get_weight_decay(parameter, settings), []).append(self._rows[name])
        by_decay = [{"params": rows, "weight_decay": decay} for decay, rows in groups.items()]
        self._torch, self._moments = _torch_optimizer(by_decay, settings)
        # torch allocates these in the first step, but a checkpoint is loaded before it.
        for rows in self._rows.values():
            state = {moment: torch.zeros_like(rows) for moment in self._moments}
            if settings.name is not OptimizerName.SGD:
                state["step"] = torch.zeros((), dtype=torch.float32, device=rows.device)
            self._torch.state[rows] = state

    def step(self, gradients: Sequence[Tensor], rate: float) -> None:
        """Update all rows; `gradients` are theirs, in the order of the model's parameters."""
        for group in self._torch.param_groups:
            group["lr"] = rate
        for rows, gradient in zip(self._rows.values(), gradients, strict=True):
            rows.grad = gradient
        self._torch.step()
        self._torch.zero_grad()

    def moments(self) -> dict[str, dict[str, Tensor]]:
        """Return moment -> parameter name -> live tensor, laid out as the parameter."""
        state = self._torch.state
        return {
            moment: {
                name: dtensor_like(self._parameters[name], state[rows][moment])
                for name, rows in self._rows.items()
            }
            for moment in self._moments
        }

    def set_update_count(self, updates: int) -> None:
        """Set the number of updates that the moments include; Adam's bias correction needs it."""
        for state in self._torch.state.values():
            if "step" in state:
                state["step"].fill_(updates)


def _torch_optimizer(
    groups: list[dict[str, Any]], settings: Optimizer
) -> tuple[torch.optim.Optimizer, tuple[str, ...]]:
    """Build torch's optimizer of that name; also return its names of the moments."""
    if settings.name is OptimizerName.SGD:
        momentum, nesterov = settings.momentum or 0.0, bool(settings.nesterov)
        sgd = torch.optim.SGD(groups, settings.learning_rate, momentum, nesterov=nesterov, fused=True)
        return sgd, ("momentum_buffer",) if momentum else ()
    rule = {OptimizerName.ADAM: torch.optim.Adam, OptimizerName.ADAMW: torch.optim.AdamW}[settings.name]
    assert settings.betas is not None, "resolve() fills these in"
    assert settings.epsilon is not None, "resolve() fills these in"
    betas = (settings.betas[0], settings.betas[1])
    adam = rule(groups, lr=settings.learning_rate, betas=betas, eps=settings.epsilon, fused=True)
    return adam, ("exp_avg", "exp_avg_sq")


def get_weight_decay(parameter: Tensor, settings: Optimizer) -> float:
    """Return the weight decay of `parameter` under resolved `settings`: matrices decay, embeddings included.

    Norms and biases are vectors: a norm weight has no scale to restrain, and a bias no capacity to limit.
    Embeddings decay, as in GPT-2's, Llama's and BERT's usual recipes; a tied one is the output head as well.
    """
    assert settings.weight_decay is not None, "resolve() fills this in"
    return settings.weight_decay if parameter.ndim > 1 else 0.0
