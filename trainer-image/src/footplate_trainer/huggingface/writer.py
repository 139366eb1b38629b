"""Writes a model as a folder that transformers opens unchanged: safetensors, config.json, tokenizer."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_state_dict_into_shards_factory
from safetensors.torch import save_file
from torch import Tensor

from footplate_contracts.v1alpha1.model import Model, PositionName
from footplate_planning.config import shape_of
from footplate_trainer.data.layout import ALIASES
from footplate_trainer.huggingface.folder import CONFIG_FILE, INDEX_FILE
from footplate_trainer.huggingface.model_config import config_of
from footplate_trainer.huggingface.reader import json_bytes
from footplate_trainer.huggingface.saved_processors import (
    NONE,
    POSITIONS,
    TOKENIZER_SETTINGS,
    SavedProcessors,
)
from footplate_trainer.huggingface.sequence_classification import SequenceClassification
from footplate_trainer.huggingface.tensor_names import ParameterLocation, parameter_locations

SHARD_BYTES = 4 << 30  # of one file; also what is held in memory at once

Load = Callable[[Sequence[str]], Mapping[str, Tensor]]


def write_folder(
    folder: Path,
    model: Model,
    sizes: Mapping[str, tuple[int, ...]],
    load: Load,
    tokenizer: bytes | None,
    processors: SavedProcessors = NONE,
    shard_bytes: int = SHARD_BYTES,
    scoring: SequenceClassification | None = None,
) -> list[str]:
    """Write the network `model` to `folder`, with `processors`; return the names of the files.

    `sizes` has the shape of each of our parameters, `load` returns some of them whole, in fp32. `scoring` is
    for a model that scores sequences.

    Raises ValueError when transformers cannot express the model.
    """
    config = config_of(model)
    positions = _positions(model, processors)
    if model.position.name is PositionName.ROPE:
        config[POSITIONS] = positions
    folder.mkdir(parents=True, exist_ok=True)
    assert model.family is not None, "config_of has checked it"
    grouped: dict[str, list[tuple[str, ParameterLocation]]] = defaultdict(list)
    for name, place in parameter_locations(model.family, shape_of(model), sizes).items():
        grouped[place.name].append((name, place))
    split = split_state_dict_into_shards_factory(
        grouped,
        get_storage_size=partial(_bytes, sizes=sizes),
        filename_pattern="model{suffix}.safetensors",
        max_shard_size=shard_bytes,
    )
    for file, shard in split.filename_to_tensors.items():
        ours = load([name for theirs in shard for name, _ in grouped[theirs]])
        tensors = {theirs: _whole(grouped[theirs], ours) for theirs in shard}
        save_file(tensors, folder / file, metadata={"format": "pt"})
    written = list(split.filename_to_tensors)
    if split.is_sharded:
        listing = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        written.append(_write(folder, INDEX_FILE, json_bytes(listing)))
    config |= {"dtype": "float32", "torch_dtype": "float32"}
    padding = None if scoring is None else scoring.padding
    if tokenizer is not None:
        written.append(_write(folder, "tokenizer.json", tokenizer))
        if TOKENIZER_SETTINGS not in processors.files:
            ids, settings = _tokenizer_settings(tokenizer, model)
            config |= ids
            settings |= {} if padding is None else {"pad_token": padding.token}
            written.append(_write(folder, TOKENIZER_SETTINGS, json_bytes(settings)))
    for name, content in processors.export_files(positions, padding.token if padding else None).items():
        written.append(_write(folder, name, content))
    config |= processors.token_ids()
    config |= {} if scoring is None else scoring.settings(config)
    written.append(_write(folder, CONFIG_FILE, json_bytes(config)))
    return written


def write_processors(folder: Path, model: Model, tokenizer: bytes, processors: SavedProcessors) -> list[str]:
    """Write the files for chatting with the adapters of `model` to `folder`; return their names."""
    files = {"tokenizer.json": tokenizer}
    if TOKENIZER_SETTINGS not in processors.files:
        files[TOKENIZER_SETTINGS] = json_bytes(_tokenizer_settings(tokenizer, model)[1])
    files |= processors.export_files(_positions(model, processors))
    return [_write(folder, name, content) for name, content in files.items()]


def _positions(model: Model, processors: SavedProcessors) -> int:
    """Return the longest text; positions that are not learned extend beyond the run's as before."""
    rotary = model.position.name is PositionName.ROPE
    return max(model.context_length, processors.max_positions() if rotary else 0)


def _write(folder: Path, name: str, content: bytes) -> str:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return name


def _bytes(parts: list[tuple[str, ParameterLocation]], sizes: Mapping[str, tuple[int, ...]]) -> int:
    return sum(4 * torch.Size(sizes[name]).numel() for name, _ in parts)


def _whole(parts: list[tuple[str, ParameterLocation]], ours: Mapping[str, Tensor]) -> Tensor:
    """Build one tensor of transformers from ours."""
    ordered = sorted(parts, key=lambda part: part[1].part)
    whole = torch.cat([ours[name] for name, _ in ordered])
    return (whole.T if ordered[0][1].transposed else whole).contiguous()


def _tokenizer_settings(tokenizer: bytes, model: Model) -> tuple[dict[str, int], dict[str, Any]]:
    """Return ids for config.json, and tokenizer_config.json, from the special tokens in tokenizer.json."""
    added = {token["content"]: token["id"] for token in json.loads(tokenizer).get("added_tokens", [])}
    ids: dict[str, int] = {}
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": model.context_length,
        "clean_up_tokenization_spaces": False,
    }
    for role, names in ALIASES.items():
        found = next((name for name in names if name in added), None)
        if found is not None:
            settings[f"{role}_token"] = found
            if role in ("bos", "eos", "pad"):
                ids[f"{role}_token_id"] = added[found]
    return ids, settings
