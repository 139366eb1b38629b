"""tensors.json: maps byte ranges of files to parts of tensors.

It is read before a load and may have a hundred thousand parts, so its records are dataclasses, which pydantic
fills four times as fast as models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field, NonNegativeInt, PlainSerializer, PlainValidator

from footplate_contracts.base import WireMessage


def _dtype(name: object) -> torch.dtype:
    found = getattr(torch, name, None) if isinstance(name, str) else None
    if not isinstance(found, torch.dtype):
        raise ValueError(f"this torch has no type {name}")
    return found


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


ElementType = Annotated[torch.dtype, PlainValidator(_dtype), PlainSerializer(_name)]
"""In JSON as torch names it: float32."""


@dataclass(frozen=True, slots=True)
class TensorSlice:
    """A rectangular part of a tensor, stored in `file` in the element order of a contiguous tensor."""

    file: Annotated[str, Field(pattern=r"^tensors-\d+\.bin$")]
    start: NonNegativeInt  # bytes before its first element
    offsets: tuple[NonNegativeInt, ...]  # of the box in the tensor
    shape: tuple[NonNegativeInt, ...]


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor, in as many slices as there were ranks with distinct parts of it."""

    dtype: ElementType
    shape: tuple[NonNegativeInt, ...]
    slices: list[TensorSlice]


class TensorIndex(WireMessage):
    """Index of all tensors of a checkpoint by name."""

    tensors: dict[str, StoredTensor]
