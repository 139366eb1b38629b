"""Finds the files that belong to a run's weights: chat template, special tokens, generation settings."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from footplate_contracts.runconfig import RunConfig
from footplate_planning.config import model_shape
from footplate_trainer.checkpoint import layout
from footplate_trainer.checkpoint.durable import resume
from footplate_trainer.checkpoint.durable.warm_start import iter_source_checkpoints
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.checkpoint.store import CheckpointStore
from footplate_trainer.data.sources import RunShards
from footplate_trainer.data.tokenizer_json import parse_tokenizer
from footplate_trainer.errors import CheckpointDamaged
from footplate_trainer.huggingface.folder import ModelFolder
from footplate_trainer.huggingface.initial import initial_checkpoint
from footplate_trainer.huggingface.model_end_tokens import with_chat_template
from footplate_trainer.huggingface.saved_processors import (
    NONE,
    TEMPLATES,
    SavedProcessors,
    checkpoint_processors,
    read_processors,
    tokenizer_mismatch,
)
from footplate_trainer.input_folder import InputFolder
from footplate_trainer.parallel import object_collectives
from footplate_trainer.parallel.world import DistributedContext
from footplate_trainer.storage import join

_log = logging.getLogger(__name__)


def find_saved_processors(
    config: RunConfig, store: CheckpointStore, shards: RunShards, world: DistributedContext
) -> SavedProcessors:
    """Find what goes with the weights into an export, equal on every rank. Collective.

    It comes from the source of the weights; once the run has a checkpoint, from there, as the source may be
    gone. It is left out, with a warning, if it does not fit the tokenizer of `shards`. A model without a chat
    template uses that of `shards` from then on.
    """

    def find() -> SavedProcessors:
        found = _find(config, store, shards.tokenizer)
        if shards.template is None:
            return found
        tokenizer = parse_tokenizer(shards.tokenizer)
        return with_chat_template(found, tokenizer, model_shape(config).vocabulary, shards.template)

    return object_collectives.compute_on_rank_0(find, world.background)


def _find(config: RunConfig, store: CheckpointStore, tokenizer: bytes) -> SavedProcessors:
    own = _kept(resume.iter_readable(store))
    if own is not None:
        return own[0]
    if config.resume_from is not None:
        asked = config.resume_from.uri
        source = _kept(iter_source_checkpoints(config.resume_from))
        return NONE if source is None else _fitting(*source, tokenizer, f"resumeFrom {asked}")
    if config.init_from is not None:
        asked = config.init_from.place
        begun = initial_checkpoint(config.init_from, config.lineage)
        if begun is not None:
            theirs = begun.read_bytes(layout.TOKENIZER_FILE)
            return _fitting(checkpoint_processors(begun), theirs, tokenizer, f"initFrom {asked}")
        return _fitting(*_read(asked), tokenizer, f"initFrom {asked}")
    return NONE


def _kept(checkpoints: Iterable[StepCheckpoint]) -> tuple[SavedProcessors, bytes] | None:
    """Return the files in the first undamaged checkpoint, and its tokenizer.json; None without one."""
    for checkpoint in checkpoints:
        try:
            return checkpoint_processors(checkpoint), checkpoint.read_bytes(layout.TOKENIZER_FILE)
        except CheckpointDamaged as error:
            _log.warning("%s; reading tokenizer and settings from the previous checkpoint", error)
    return None


def _read(uri: str) -> tuple[SavedProcessors, bytes | None]:
    """Read the files in a model's folder, and its tokenizer.json."""
    folder = ModelFolder(uri)
    templates = InputFolder(join(uri, TEMPLATES), folder.field)
    try:
        found = read_processors(folder.read, templates.names() if templates.exists else [])
    except ValueError as error:
        raise folder.user_mistake(str(error)) from error
    return found, folder.read(layout.TOKENIZER_FILE)


def _fitting(
    processors: SavedProcessors, theirs: bytes | None, tokenizer: bytes, place: str
) -> SavedProcessors:
    """Return `processors`, made for the tokenizer `theirs`, if they fit the run's `tokenizer`, else NONE."""
    wrong = tokenizer_mismatch(processors, theirs, tokenizer)
    if wrong is None:
        return processors
    _log.warning(
        "%s: skipping its chat template, special tokens and generation settings, as the data has another "
        "tokenizer: %s",
        place,
        wrong,
    )
    return NONE
