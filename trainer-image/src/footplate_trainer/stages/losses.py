"""Builds objectives from the contract's loss settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from footplate_contracts.runconfig import RunConfig
from footplate_contracts.stages import STAGES
from footplate_contracts.v1alpha1.training import Loss, LossName
from footplate_trainer.errors import UserMistake
from footplate_trainer.model.head_chunks import VocabularyShard
from footplate_trainer.model.inputs import Targets
from footplate_trainer.model.loss import TokenLoss, summed_cross_entropy
from footplate_trainer.model.preference_loss import build_preference_loss
from footplate_trainer.model.text_losses import summed_square_error
from footplate_trainer.parallel.loss_objective import LossObjective
from footplate_trainer.parallel.objective import Contrastive, Objective, PerMicroBatch, with_head
from footplate_trainer.parallel.reward_objective import RankedPairs
from footplate_trainer.user_function import import_user_function

Function = Callable[[Tensor, Tensor, Targets], Tensor]
"""One's own loss, see docs/losses.md."""


def objective_of(config: RunConfig) -> Objective:
    """Return the objective of `config`, importing a user's function; raise UserMistake if it cannot work."""
    rules = STAGES[config.stage]
    if config.preference is not None and rules.compares:
        return LossObjective(build_preference_loss(config.preference))
    if rules.has_score_head:
        return RankedPairs((config.reward and config.reward.centering) or 0.0)
    settings = config.training.loss
    if settings.name == LossName.CROSS_ENTROPY:
        return cross_entropy(settings)
    _refuse_axes(config)
    if settings.name == LossName.MSE:
        return PerMicroBatch(_Whole(summed_square_error))
    if settings.name == LossName.CONTRASTIVE:
        assert settings.temperature is not None, "resolve() fills this in"
        return Contrastive(settings.temperature)
    return PerMicroBatch(_Whole(_Own(settings.name, import_function(settings.name))))


def validation_objective(config: RunConfig, objective: Objective) -> Objective:
    """Return validation's objective for a training `objective`, with values that can be compared."""
    if isinstance(objective, RankedPairs):
        return replace(objective, moments=True)
    if isinstance(objective, PerMicroBatch) and config.training.loss.name == LossName.CROSS_ENTROPY:
        return cross_entropy(Loss())  # whatever training adds to it
    return objective


def cross_entropy(settings: Loss) -> Objective:
    """Return cross-entropy with the smoothing and z-loss of `settings`."""
    return PerMicroBatch(partial(_cross_entropy, TokenLoss(settings.label_smoothing, settings.z_loss)))


def import_function(name: str) -> Function:
    """Import the function that "package.module:function" names; raise UserMistake if that fails."""
    found = import_user_function(name, "training.loss.name")
    try:
        inspect.signature(found).bind(None, None, None)
    except (TypeError, ValueError) as error:
        raise UserMistake(
            f"training.loss.name {name} cannot be called with (hidden, head, targets): {error}"
        ) from error
    function: Function = found
    return function


def _cross_entropy(
    loss: TokenLoss,
    hidden: Tensor,
    head: Tensor,
    targets: Targets,
    *,
    vocabulary: VocabularyShard | None = None,
) -> Tensor:
    return summed_cross_entropy(hidden, head, targets.labels, loss, vocabulary=vocabulary)


@dataclass(frozen=True)
class _Whole:
    """A function of the whole head, as a criterion."""

    function: Function

    def __call__(
        self, hidden: Tensor, head: Tensor, targets: Targets, *, vocabulary: VocabularyShard | None = None
    ) -> Tensor:
        if vocabulary is None:
            return with_head(self.function(hidden, head, targets), head)
        whole = vocabulary.whole(head)
        loss = with_head(self.function(hidden, whole, targets), whole)
        # The ranks' gradients are added up, and each of them has computed all.
        return loss.detach() + (loss - loss.detach()) / vocabulary.ranks


@dataclass(frozen=True)
class _Own:
    """A user's function, with a check of its result."""

    name: str
    function: Function

    def __call__(self, hidden: Tensor, head: Tensor, targets: Targets) -> Tensor:
        loss = self.function(hidden, head, targets)
        if not isinstance(loss, Tensor) or loss.ndim != 0:
            given = (
                f"a tensor of shape {list(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            )
            raise UserMistake(
                f"training.loss.name {self.name} returned {given}; return a scalar, the sum of all losses"
            )
        return loss.double()


def _refuse_axes(config: RunConfig) -> None:
    """Raise UserMistake for ranks that hold only a part of the loss's input."""
    name, parallelism = config.training.loss.name, config.parallelism
    whole = "which needs whole sequences, but a context rank has only some positions"
    axes = {"context": (parallelism.context, whole)}
    if name == LossName.CONTRASTIVE:
        each = "which compares the texts of all ranks, but {} ranks share theirs"
        axes["tensor"] = (parallelism.tensor, each.format("tensor"))
        axes["pipeline"] = (parallelism.pipeline, each.format("pipeline"))
    for axis, (degree, reason) in axes.items():
        if degree > 1:
            raise UserMistake(
                f"parallelism.{axis} {degree} does not work with training.loss.name {name}, {reason}; "
                f"set {axis} to 1"
            )
