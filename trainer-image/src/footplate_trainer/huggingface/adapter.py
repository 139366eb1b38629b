"""Adapters for other programs: merged into the weights, or as a folder that PEFT opens.

PEFT refers to modules of transformers, and one of these may be several of our layers: GPT-2 has query, key
and value in one. Their adapters become a single adapter whose rank is the sum of their ranks, with the Bs in
a block diagonal, which adds the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from torch import Tensor

from footplate_contracts.v1alpha1.model import Architecture, Family, Model
from footplate_planning.config import shape_of
from footplate_planning.shape import ModelShape
from footplate_trainer.huggingface.model_config import config_of
from footplate_trainer.huggingface.reader import json_bytes
from footplate_trainer.huggingface.tensor_names import ParameterLocation, parameter_locations
from footplate_trainer.huggingface.writer import Load
from footplate_trainer.model.linear import SCORE

TENSORS_FILE: Final = "adapter_model.safetensors"
SETTINGS_FILE: Final = "adapter_config.json"
_TASKS: Final = {Architecture.DECODER: "CAUSAL_LM", Architecture.ENCODER_DECODER: "SEQ_2_SEQ_LM"}


def with_merged_adapters(load: Load, model: Model) -> Load:
    """Return `load` with weights W of adapted layers merged to W + alpha / rank B A, in fp32."""
    shape = shape_of(model)
    adapter, layers = shape.adapter, shape.adapted_layers()
    if adapter is None:
        return load

    def load_merged(names: Sequence[str]) -> Mapping[str, Tensor]:
        adapted = [name for name in names if name.removesuffix(".weight") in layers]
        thin = [matrix for name in adapted for matrix in matrices(name.removesuffix(".weight"))]
        tensors = dict(load([*names, *thin]))
        for name in adapted:
            a, b = (tensors.pop(matrix) for matrix in matrices(name.removesuffix(".weight")))
            tensors[name] = tensors[name] + adapter.alpha / adapter.rank * (b @ a)
        return tensors

    return load_merged


def write_adapter(folder: Path, shape: ModelShape, model: Model, base: str | None, load: Load) -> list[str]:
    """Write the adapters of `model` to `folder`, for use on `base`; return the names of the files.

    A head of scores is written too: no `base` has it, and PEFT stores it whole. `load` returns some of our
    parameters whole, in fp32. Raises ValueError when transformers cannot express the model.
    """
    config_of(model)
    assert shape.adapter is not None and model.family is not None
    modules: dict[str, list[tuple[str, ParameterLocation]]] = defaultdict(list)
    weights = [f"{layer}.weight" for layer in shape.adapted_layers()]
    for name, place in parameter_locations(model.family, shape, weights).items():
        modules[place.name.removesuffix(".weight")].append((name.removesuffix(".weight"), place))
    tensors: dict[str, Tensor] = {}
    for module, parts in modules.items():
        ordered = sorted(parts, key=lambda part: part[1].part)
        a, b = _joined(ordered, load([matrix for layer, _ in ordered for matrix in matrices(layer)]))
        tensors[f"base_model.model.{module}.lora_A.weight"] = a
        tensors[f"base_model.model.{module}.lora_B.weight"] = b
    if shape.labels:
        head = f"{SCORE}.weight"
        tensors[f"base_model.model.{head}"] = load([head])[head]
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / TENSORS_FILE, metadata={"format": "pt"})
    joined = {module: len(parts) for module, parts in modules.items()}
    (folder / SETTINGS_FILE).write_bytes(json_bytes(_settings(model, shape, joined, base)))
    return [TENSORS_FILE, SETTINGS_FILE]


def matrices(layer: str) -> tuple[str, str]:
    """Return the names of A and B of a layer's adapter."""
    return f"{layer}.adapter.a", f"{layer}.adapter.b"


def _joined(
    parts: Sequence[tuple[str, ParameterLocation]], ours: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Join the adapters of our layers in a module to its A and B."""
    pairs = [tuple(ours[name] for name in matrices(layer)) for layer, _ in parts]
    rank, rows = pairs[0][0].shape[0], pairs[0][1].shape[0]
    whole = torch.zeros(rows * parts[0][1].parts, rank * len(parts))
    for index, ((_, place), (_, b)) in enumerate(zip(parts, pairs, strict=True)):
        whole[place.part * rows : (place.part + 1) * rows, index * rank : (index + 1) * rank] = b
    return torch.cat([a for a, _ in pairs]), whole


def _settings(model: Model, shape: ModelShape, joined: Mapping[str, int], base: str | None) -> dict[str, Any]:
    """Return adapter_config.json; `joined` has for each module the number of our adapters in it."""
    adapter = shape.adapter
    assert adapter is not None
    several = {module: count for module, count in joined.items() if count > 1}
    return {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS" if shape.labels else _TASKS.get(shape.architecture),
        "modules_to_save": [SCORE] if shape.labels else None,
        "base_model_name_or_path": base,
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "lora_dropout": adapter.dropout,
        "target_modules": sorted(joined),
        # What a module adds counts alpha / rank, so both grow.
        "rank_pattern": {module: count * adapter.rank for module, count in several.items()},
        "alpha_pattern": {module: count * adapter.alpha for module, count in several.items()},
        "fan_in_fan_out": model.family is Family.GPT2,
        "bias": "none",
        "inference_mode": True,
    }
