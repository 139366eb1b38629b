"""Names of a rollout's journal in a checkpoint folder, and which of them may go: pure.

    rollouts/0000000120/e1g3-r0-0.records    what rank 0 of generation 3 of epoch 1 finished, in the rollout
                                             that began after 120 optimizer steps

On a file system a rank appends to one file; where objects are written whole, it writes one after another.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from footplate_contracts.reports import GenerationId

FOLDER: Final = "rollouts"
_NAME: Final = re.compile(rf"{FOLDER}/(\d+)/e(\d+)g(\d+)-r(\d+)-(\d+)\.records")


@dataclass(frozen=True)
class JournalFile:
    """One file."""

    step: int  # after which its rollout began
    generation: GenerationId
    rank: int
    number: int = 0

    @property
    def name(self) -> str:
        """In the checkpoint folder."""
        who = f"e{self.generation.epoch}g{self.generation.number}-r{self.rank}-{self.number}"
        return f"{rollout_folder(self.step)}/{who}.records"

    @classmethod
    def parse(cls, name: str) -> JournalFile | None:
        """The inverse of `name`; None for anything else."""
        found = _NAME.fullmatch(name)
        if found is None:
            return None
        step, epoch, number, rank, place = map(int, found.groups())
        return cls(step, GenerationId(epoch=epoch, number=number), rank, place)


def rollout_folder(step: int) -> str:
    """Of the rollout that began after `step`."""
    return f"{FOLDER}/{step:010d}"


def ended(begun: Iterable[int], standing: Collection[int], updates: int) -> list[int]:
    """Those of the rollouts `begun` (by the step after which they began) that nobody needs any more.

    A rollout is trained on for `updates` steps. Until then a start from one of the checkpoints `standing`, by
    their steps, goes on with its answers, and weights that could draw them again are no more. So it is over
    once the newest checkpoint is beyond it and none stands within it.
    """
    newest = max(standing, default=0)
    return [
        first
        for first in begun
        if first + updates <= newest and not any(first < step < first + updates for step in standing)
    ]
