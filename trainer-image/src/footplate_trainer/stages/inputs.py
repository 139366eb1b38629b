"""The data of a run, including held-out data, opened and checked by all ranks together.

Wrong data must end the run with one clear error, whichever
rank detects it, and before the first step.
"""

from __future__ import annotations

from footplate_contracts.runconfig import RunConfig
from footplate_contracts.stages import STAGES
from footplate_planning.config import model_shape
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.callbacks.validation import ValidationCallback
from footplate_trainer.data.loader import BatchLoader
from footplate_trainer.data.sources import RunShards, dataset_of
from footplate_trainer.errors import DataError, TrainerError, UserMistake
from footplate_trainer.loop.limits import RunLimits
from footplate_trainer.loop.stepper import Stepper
from footplate_trainer.parallel import object_collectives
from footplate_trainer.parallel.mesh import Grid
from footplate_trainer.parallel.objective import Objective
from footplate_trainer.parallel.world import DistributedContext
from footplate_trainer.stages.losses import validation_objective


def open_shards(config: RunConfig, world: DistributedContext, *, verify: bool) -> RunShards:
    """Open the shards, with `verify` their checksums compared by all ranks together; collective.

    Raises, on every rank, the first error of any rank: DataMissing, DataCorrupt,
    or UserMistake when sources or the model's vocabulary do not fit. Verification
    reads everything: a restart should not do it.
    """
    error: TrainerError | None = None
    try:
        share = (world.rank, world.size) if verify else None
        shards = RunShards.open(config.data, verify=share, local_rank=world.local_rank)
    except (DataError, UserMistake) as found:
        error = found
    object_collectives.raise_first(error, world.background)
    vocabulary = model_shape(config).vocabulary
    if shards.vocabulary_size > vocabulary:
        grows = config.init_from is not None
        remedy = " with model.resizeTokenEmbeddings, or pack with the folder's own tokenizer" if grows else ""
        raise UserMistake(
            f"model.vocabularySize {vocabulary} does not cover the shards in {shards.sources[0].shards.uri}, "
            f"whose vocabulary has {shards.vocabulary_size}; set at least that{remedy}"
        )
    return shards


def open_loader(config: RunConfig, shards: RunShards, grid: Grid) -> BatchLoader:
    """Return this rank's batches; raise UserMistake if the shards lack what the run configures."""
    return BatchLoader(
        dataset_of(
            shards,
            config.data,
            config.training.loss.name,
            config.model.context_length,
            STAGES[config.stage],
            config.preference,
        ),
        seed=config.data.seed,
        global_batch_size=config.training.global_batch_size,
        micro_batch_size=config.training.micro_batch_size,
        data_rank=grid.coordinates.data,
        data_degree=grid.topology.data,
    )


def open_validation(
    config: RunConfig,
    objective: Objective,
    world: DistributedContext,
    grid: Grid,
    stepper: Stepper,
    limits: RunLimits,
    reporter: Reporter,
    *,
    verify: bool,
) -> ValidationCallback | None:
    """Return the validation of a run, None if not configured; collective.

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
            f"validation.uri {settings.uri} has {len(loader.dataset)} sequences, fewer than one global batch "
            f"of {loader.global_batch_size}; use more held-out data, or a smaller globalBatchSize"
        )
    batches = min(settings.batches, whole)
    objective = validation_objective(config, objective)
    return ValidationCallback(
        stepper, objective, loader, limits, reporter, world, every=settings.every_steps, batches=batches
    )
