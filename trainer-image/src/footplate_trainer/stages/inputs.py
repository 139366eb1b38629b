"""The data of a run, opened and judged by all ranks together.

What is wrong with the data must end the run with one clear verdict, whichever
rank sees it, and before the first step.
"""

from __future__ import annotations

import torch.distributed as dist

from footplate_contracts.runconfig import RunConfig
from footplate_trainer.data.errors import DataError
from footplate_trainer.data.loader import BatchLoader, SequenceDataset
from footplate_trainer.data.shards import TokenShards
from footplate_trainer.errors import UserMistake
from footplate_trainer.parallel.world import World


def open_shards(config: RunConfig, world: World, *, verify: bool) -> TokenShards:
    """The shards, with `verify` their checksums compared by all ranks together; collective.

    Raises, on every rank, the first DataMissing or DataCorrupt that one met,
    and UserMistake when the model's vocabulary is too small. To verify is to
    read everything: a restart should not.
    """
    assert config.data.uri is not None, "the CRD's rule asks for data.uri"
    error: DataError | None = None
    try:
        shards = TokenShards.open(config.data.uri, verify=(world.rank, world.size) if verify else None)
    except DataError as found:
        error = found
    errors: list[DataError | None] = [None] * world.size
    dist.all_gather_object(errors, error, group=world.background)
    for one in errors:
        if one is not None:
            raise one
    if shards.vocabulary_size > config.model.vocabulary_size:
        raise UserMistake(
            f"model.vocabularySize {config.model.vocabulary_size} does not cover the shards in "
            f"{config.data.uri}, whose vocabulary has {shards.vocabulary_size}; give at least that"
        )
    return shards


def open_loader(config: RunConfig, shards: TokenShards, world: World) -> BatchLoader:
    """This rank's batches; UserMistake when the shards do not fill one sequence."""
    try:
        dataset = SequenceDataset(
            shards,
            config.model.context_length,
            packing_enabled=config.data.packing.enabled,
            cross_document_attention=config.data.packing.cross_document_attention,
        )
    except ValueError as error:
        raise UserMistake(str(error)) from error
    return BatchLoader(
        dataset,
        seed=config.data.seed,
        global_batch_size=config.training.global_batch_size,
        micro_batch_size=config.training.micro_batch_size,
        data_rank=world.rank,
        data_degree=world.size,
    )
