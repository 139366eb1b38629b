"""`spec.validation`: held-out data, dealt to the ranks like that of training."""

from __future__ import annotations

from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.training import Loss, LossName
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.callbacks.validation import Validation
from footplate_trainer.errors import UserMistake
from footplate_trainer.loop.limits import RunLimits
from footplate_trainer.loop.stepper import Stepper
from footplate_trainer.parallel.mesh import Grid
from footplate_trainer.parallel.objective import Objective
from footplate_trainer.parallel.world import World
from footplate_trainer.stages.inputs import open_loader, open_shards
from footplate_trainer.stages.losses import cross_entropy


def open_validation(
    config: RunConfig,
    objective: Objective,
    world: World,
    grid: Grid,
    stepper: Stepper,
    limits: RunLimits,
    reporter: Reporter,
    *,
    verify: bool,
) -> Validation | None:
    """The validation of a run that asks for one; collective.

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
    return Validation(
        stepper, objective, loader, limits, reporter, world, every=settings.every_steps, batches=batches
    )
