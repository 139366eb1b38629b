"""Partition of requests over the copies of a network. Pure.

An answer is the same wherever it is sampled; so the copies only need about equally
much work, and the siblings of a prompt, which share its keys, stay together.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from footplate_trainer.generation.requests import GenerationRequest


def partition_requests(requests: Sequence[GenerationRequest], copies: int) -> list[list[GenerationRequest]]:
    """Split requests into consecutive parts, one for each of `copies`, whose sizes differ by at most one."""
    assert copies > 0
    bounds = [len(requests) * copy // copies for copy in range(copies + 1)]
    return [list(requests[first:end]) for first, end in pairwise(bounds)]
