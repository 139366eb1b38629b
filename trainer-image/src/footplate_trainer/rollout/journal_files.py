"""Names of a rollout's journal files in a checkpoint folder, and which of them are obsolete: pure.

    rollouts/0000000120/e1g3-r0-0.records    records of rank 0 of generation 3 of epoch 1, for the rollout
                                             that began after 120 optimizer steps

On a file system a rank appends to one file; in a bucket, whose objects are written whole, it writes several.
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
    """A file of a journal."""

    step: int  # after which its rollout began
    generation: GenerationId
    rank: int
    number: int = 0

    @property
    def name(self) -> str:
        """Path within the checkpoint folder."""
        who = f"e{self.generation.epoch}g{self.generation.number}-r{self.rank}-{self.number}"
        return f"{rollout_folder(self.step)}/{who}.records"

    @classmethod
    def parse(cls, name: str) -> JournalFile | None:
        """Return the file with that `name`; None for any other name."""
        found = _NAME.fullmatch(name)
        if found is None:
            return None
        step, epoch, number, rank, place = map(int, found.groups())
        return cls(step, GenerationId(epoch=epoch, number=number), rank, place)


def rollout_folder(step: int) -> str:
    """Return the folder of the rollout that began after `step`."""
    return f"{FOLDER}/{step:010d}"


def find_obsolete_rollouts(begun: Iterable[int], standing: Collection[int], updates: int) -> list[int]:
    """Return which of the rollouts `begun` (by the step after which they began) are obsolete.

    A rollout is trained on for `updates` steps. Until then a start from one of the checkpoints `standing`, by
    their steps, needs its answers, and the weights that could sample them again are gone. So it is obsolete
    once the newest checkpoint is at its end or later and no checkpoint lies within it.
    """
    newest = max(standing, default=0)
    return [
        first
        for first in begun
        if first + updates <= newest and not any(first < step < first + updates for step in standing)
    ]
