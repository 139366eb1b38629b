"""A checkpoint as a Hugging Face folder.

The tensors pass through memory a few gigabytes at a time, so a model larger than any machine's memory can be
exported on a small one. Adapters are merged into the weights, or are written alone.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from footplate_contracts.stages import STAGES
from footplate_planning.config import model_shape
from footplate_trainer.checkpoint import layout
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.checkpoint.tensor_reader import load_tensors
from footplate_trainer.data.tokenizer_json import parse_tokenizer
from footplate_trainer.errors import StorageError, UserMistake
from footplate_trainer.huggingface.adapter import with_merged_adapters, write_adapter
from footplate_trainer.huggingface.folder import ModelFolder
from footplate_trainer.huggingface.model_end_tokens import end_token_ids
from footplate_trainer.huggingface.saved_processors import SavedProcessors, checkpoint_processors
from footplate_trainer.huggingface.sequence_classification import (
    PaddingToken,
    SequenceClassification,
    find_padding_token,
)
from footplate_trainer.huggingface.writer import write_folder, write_processors
from footplate_trainer.model.linear import is_adapter_parameter
from footplate_trainer.model.network_factory import build_network

_log = logging.getLogger(__name__)


def export_checkpoint(checkpoint: StepCheckpoint, out: Path, *, adapter: bool = False) -> list[str]:
    """Write the model of a step directory, or only its adapters, to `out`; return the names of the files.

    Raises UserMistake when transformers cannot express the model, there are no adapters, or the folder that
    they are for lacks embeddings, and StorageError when `out` cannot be written.
    """
    config = checkpoint.config()
    if adapter and config.model.adapter is None:
        raise UserMistake(
            f"run {config.run.name} was trained without model.adapter; remove --adapter to write all of its "
            "weights"
        )
    if adapter and config.model.resize_token_embeddings:
        raise UserMistake(
            f"run {config.run.name} has more embeddings than its initFrom folder, on which the adapters "
            "would be loaded; remove --adapter to write all of its weights"
        )
    with torch.device("meta"):
        model = build_network(model_shape(config))
    sizes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}

    def read(names: Sequence[str]) -> Mapping[str, Tensor]:
        tensors = {name: torch.empty(sizes[name]) for name in names}
        load_tensors(checkpoint, {f"model.{name}": tensors[name] for name in names})
        return tensors

    weights = {name: size for name, size in sizes.items() if not is_adapter_parameter(name)}
    tokenizer, processors = checkpoint.read_bytes(layout.TOKENIZER_FILE), checkpoint_processors(checkpoint)
    try:
        if adapter:
            base = ModelFolder(config.init_from.place).name if config.init_from else None
            written = write_adapter(out, model.shape, config.model, base, read)
            return written + write_processors(out, config.model, tokenizer, processors)
        whole = with_merged_adapters(read, config.model)
        scoring = None
        if STAGES[config.stage].has_score_head:
            padding = _padding(processors, tokenizer, model_shape(config).vocabulary)
            scoring = SequenceClassification(padding, checkpoint.state().scores)
        return write_folder(out, config.model, weights, whole, tokenizer, processors, scoring=scoring)
    except ValueError as error:
        raise UserMistake(str(error)) from error
    except OSError as error:
        raise StorageError(f"{out}: {error.strerror or error}") from error


def _padding(processors: SavedProcessors, tokenizer: bytes, rows: int) -> PaddingToken | None:
    """Return the token that fills up a batch of texts to score, or None.

    Logs a warning if transformers will read some scores at another token, or cannot score batches.
    """
    tokens = parse_tokenizer(tokenizer)
    said = (processors.token_ids().get("pad_token_id"), processors.special_tokens().get("pad_token"))
    padding = find_padding_token(said, tokens, end_token_ids(processors, tokens, rows), rows)
    if padding is None:
        _log.warning("the tokenizer has no padding token: transformers can score only one text at a time")
    elif padding.ends_texts:
        _log.warning(
            "the tokenizer's only padding token, %s, also ends texts: for a text that ends with it, "
            "transformers reads the score of the token before",
            padding.token,
        )
    return padding
