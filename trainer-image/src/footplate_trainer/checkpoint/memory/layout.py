"""File format of a shard, which lets a step be copied at the speed of memory.

Eight bytes of header length, a JSON header, and the parts of all tensors, each aligned to 64 bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from footplate_contracts.base import Contract
from footplate_trainer.checkpoint.training_state import TrainingState

_ALIGNMENT: Final = 64  # bytes
_LENGTH: Final = 8  # bytes of the header's length, little-endian


class TensorSpan(Contract):
    """Position of one tensor's part in a file."""

    name: str
    shape: list[int]
    dtype: str
    start: int  # bytes behind the header


class ShardHeader(Contract):
    """JSON header of a shard's file."""

    state: TrainingState
    spans: list[TensorSpan]

    @classmethod
    def of(cls, state: TrainingState, tensors: Mapping[str, Tensor]) -> tuple[ShardHeader, int]:
        """Build the header for the local parts `tensors`; also return the bytes that they take after it."""
        spans, end = [], 0
        for name, tensor in tensors.items():
            spans.append(TensorSpan(name=name, shape=list(tensor.shape), dtype=str(tensor.dtype), start=end))
            end += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
        return cls(state=state, spans=spans), end


def pack_into(
    blob: Tensor, header: bytes, spans: Sequence[TensorSpan], tensors: Mapping[str, Tensor]
) -> None:
    """Fill `blob` [uint8] with a complete file."""
    opening = len(header).to_bytes(_LENGTH, "little") + header
    blob[: len(opening)].copy_(torch.frombuffer(bytearray(opening), dtype=torch.uint8))
    for span in spans:
        _view(blob, padded_header_size(header), span, tensors[span.name]).copy_(tensors[span.name])


def fill_tensors_from_file(blob: Tensor, tensors: Mapping[str, Tensor]) -> TrainingState:
    """Fill the local parts `tensors` from a complete file; ValueError when it has other tensors."""
    length = int.from_bytes(bytes(blob[:_LENGTH].tolist()), "little")
    content = bytes(blob[_LENGTH : _LENGTH + length].numpy())
    header = ShardHeader.from_json(json.loads(content))
    expected, _ = ShardHeader.of(header.state, tensors)
    if expected.spans != header.spans:
        raise ValueError("the copy in memory is of another model, optimizer or layout")
    for span in header.spans:
        tensors[span.name].copy_(_view(blob, padded_header_size(content), span, tensors[span.name]))
    return header.state


def padded_header_size(header: bytes) -> int:
    """Return the bytes before the first tensor."""
    return -(-(_LENGTH + len(header)) // _ALIGNMENT) * _ALIGNMENT


def _view(blob: Tensor, origin: int, span: TensorSpan, like: Tensor) -> Tensor:
    start = origin + span.start
    return blob[start : start + like.nbytes].view(like.dtype).view(like.shape)
