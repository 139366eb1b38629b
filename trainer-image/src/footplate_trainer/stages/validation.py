"""The loss on held-out shards, now and then while a run trains.

The held-out batches are the same each time and dealt to the ranks like those
of training, so that the loss is one exact mean over their tokens, whatever the
number of ranks, and two of them can be compared.
"""

from __future__ import annotations

from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.training import Loss, LossName
from footplate_trainer.data.loader import BatchLoader
from footplate_trainer.errors import UserMistake
from footplate_trainer.loop import Stepper
from footplate_trainer.parallel.mesh import Grid
from footplate_trainer.parallel.objective import Objective
from footplate_trainer.parallel.world import World
from footplate_trainer.stages.inputs import open_loader, open_shards
from footplate_trainer.stages.losses import cross_entropy


class Validator:
    """`spec.validation` at work; `batches` global batches, or all that there are."""

    def __init__(
        self,
        stepper: Stepper,
        objective: Objective,
        loader: BatchLoader,
        *,
        every: int,
        batches: int,
    ) -> None:
        self.batches = batches
        self._stepper = stepper
        self._loader = loader
        self._every = every
        self._objective = objective

    def due(self, step: int, last: int) -> bool:
        """Whether `step` is followed by an evaluation; `last` is the run's last step."""
        return step % self._every == 0 or step == last

    def evaluate(self) -> float:
        """Mean loss over what counts in the held-out batches, on every rank. Collective."""
        batches = (self._loader.build(number) for number in range(self.batches))
        return self._stepper.evaluate(batches, self._objective)


def open_validator(
    config: RunConfig, objective: Objective, world: World, grid: Grid, stepper: Stepper, *, verify: bool
) -> Validator | None:
    """The validator of a run that asks for one; collective.

    Raises what `open_shards` does, and UserMistake for shards that do not fill
    one global batch: some sequences would count twice.
    """
    settings = config.validation
    if settings is None:
        return None
    held_out = config.model_copy(
        update={"data": config.data.model_copy(update={"uri": settings.uri, "sources": None})}
    )
    loader = open_loader(held_out, open_shards(held_out, world, verify=verify), grid)
    whole = len(loader.dataset) // loader.global_batch_size
    if whole == 0:
        raise UserMistake(
            f"validation.uri {settings.uri} holds {len(loader.dataset)} sequences, fewer than one global "
            f"batch of {loader.global_batch_size}; give more held-out data, or a smaller globalBatchSize"
        )
    batches = min(settings.batches, whole)
    if config.training.loss.name == LossName.CROSS_ENTROPY:
        objective = cross_entropy(Loss())  # comparable, whatever training adds to it
    return Validator(stepper, objective, loader, every=settings.every_steps, batches=batches)
