"""The data of a run, opened and judged by all ranks together.

What is wrong with the data must end the run with one clear verdict, whichever
rank sees it, and before the first step.
"""

from __future__ import annotations

from footplate_contracts.runconfig import RunConfig
from footplate_planning.config import model_shape
from footplate_trainer.data.loader import BatchLoader
from footplate_trainer.data.sources import RunShards, dataset_of
from footplate_trainer.errors import DataError, TrainerError, UserMistake
from footplate_trainer.parallel import agree
from footplate_trainer.parallel.mesh import Grid
from footplate_trainer.parallel.world import World


def open_shards(config: RunConfig, world: World, *, verify: bool) -> RunShards:
    """The shards, with `verify` their checksums compared by all ranks together; collective.

    Raises, on every rank, the first error that one met: DataMissing, DataCorrupt,
    or UserMistake when sources or the model's vocabulary do not fit. To verify is
    to read everything: a restart should not.
    """
    error: TrainerError | None = None
    try:
        share = (world.rank, world.size) if verify else None
        shards = RunShards.open(config.data, verify=share, local_rank=world.local_rank)
    except (DataError, UserMistake) as found:
        error = found
    agree.raise_first(error, world.background)
    vocabulary = model_shape(config).vocabulary
    if shards.vocabulary_size > vocabulary:
        raise UserMistake(
            f"model.vocabularySize {vocabulary} does not cover the shards in "
            f"{shards.sources[0].shards.uri}, whose vocabulary has {shards.vocabulary_size}; "
            "give at least that"
        )
    return shards


def open_loader(config: RunConfig, shards: RunShards, grid: Grid) -> BatchLoader:
    """This rank's batches; UserMistake when the shards do not give what the run asks for."""
    return BatchLoader(
        dataset_of(shards, config.data, config.training.loss.name, config.model.context_length),
        seed=config.data.seed,
        global_batch_size=config.training.global_batch_size,
        micro_batch_size=config.training.micro_batch_size,
        data_rank=grid.coordinates.data,
        data_degree=grid.topology.data,
    )
