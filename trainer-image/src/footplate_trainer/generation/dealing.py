"""Which copy of a network answers which requests. Pure.

An answer is the same wherever it is drawn; so what counts is that all have about
equally much to do, and that the siblings of a prompt, which share its keys, stay together.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from footplate_trainer.generation.requests import Request


def deal(requests: Sequence[Request], copies: int) -> list[list[Request]]:
    """The requests of each of `copies`, in their order: consecutive ones, equally many but for one."""
    assert copies > 0
    bounds = [len(requests) * copy // copies for copy in range(copies + 1)]
    return [list(requests[first:end]) for first, end in pairwise(bounds)]
