"""AdamW on this rank's rows.

AdamW treats every number by itself, so it need not know that a parameter is
sharded: it is given the local rows as plain tensors that share memory with the
parameters. That spares DTensor's dispatch, which costs a tenth of a small
model's step and most of a second at the first one, when ranks restart.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from footplate_contracts.v1alpha1.training import Optimizer
from footplate_trainer.optim.groups import decays
from footplate_trainer.parallel.data import local_rows

MOMENTS = ("exp_avg", "exp_avg_sq")


class ShardedAdamW:
    """torch's fused AdamW (Loshchilov & Hutter 2019) over the rows that this rank holds."""

    def __init__(self, model: nn.Module, settings: Optimizer) -> None:
        self._rows = {name: local_rows(parameter)[0] for name, parameter in model.named_parameters()}
        decayed = [rows for rows in self._rows.values() if decays(rows)]
        others = [rows for rows in self._rows.values() if not decays(rows)]
        self._adamw = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": settings.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=settings.learning_rate,
            betas=(settings.betas[0], settings.betas[1]),
            eps=settings.epsilon,
            fused=True,
        )
        # torch allocates these in the first step, but a checkpoint is loaded before it.
        for rows in self._rows.values():
            self._adamw.state[rows] = {
                "step": torch.zeros((), dtype=torch.float32, device=rows.device),
                **{moment: torch.zeros_like(rows) for moment in MOMENTS},
            }

    def step(self, gradients: Sequence[Tensor], rate: float) -> None:
        """Update all rows; `gradients` are theirs, in the order of the model's parameters."""
        for group in self._adamw.param_groups:
            group["lr"] = rate
        for rows, gradient in zip(self._rows.values(), gradients, strict=True):
            rows.grad = gradient
        self._adamw.step()
        self._adamw.zero_grad()

    def moments(self) -> dict[str, dict[str, Tensor]]:
        """Moment -> parameter name -> its rows, shaped as the parameter's; the memory is the live one."""
        state = self._adamw.state
        return {
            moment: {name: state[rows][moment] for name, rows in self._rows.items()} for moment in MOMENTS
        }

    def set_updates_done(self, updates: int) -> None:
        """How many updates the moments have seen; the bias correction needs it."""
        for state in self._adamw.state.values():
            state["step"].fill_(updates)
