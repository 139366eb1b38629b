"""The rows of a run's history that are not known to be stored.

The holders of these rows can be lost together: the agent of rank 0, and the coordinator. So a checkpoint
carries them, and the ranks that go on from it send them again: the history reaches as far as the weights do.
See docs/decisions/ADR-0023-rows-in-checkpoints.md.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from footplate_contracts.reports import GenerationId, GenerationRow

MOST: Final = 1000  # rows, about 600 KB of a checkpoint; reached where the API is away for so many steps
MOST_WITH_SAMPLES: Final = 20  # of these, of up to 48 KB more each; older ones are kept without


class RowKey(NamedTuple):
    """Identity of a row: the generation that computed it, and its step."""

    generation: GenerationId  # that computed it
    step: int


class UnstoredRows:
    """Rows in the order in which they were added, at most the newest `most`.

    The newest `with_samples` of them have the samples of their step, where there are any.
    """

    def __init__(self, most: int = MOST, with_samples: int = MOST_WITH_SAMPLES) -> None:
        self._rows: deque[GenerationRow] = deque(maxlen=most)
        self._with_samples = with_samples

    def add(self, row: GenerationRow) -> None:
        """Add a row."""
        self._rows.append(row)
        older = len(self._rows) - self._with_samples - 1
        if older >= 0:
            self._rows[older] = self._rows[older].model_copy(update={"samples": None})

    def remove_stored(self, name: RowKey) -> None:
        """Remove this row, now stored, and all before it; an unknown row changes nothing."""
        if any(_name(row) == name for row in self._rows):
            while _name(self._rows.popleft()) != name:
                pass

    def to_list(self) -> list[GenerationRow]:
        """Return the rows, oldest first."""
        return list(self._rows)


def _name(row: GenerationRow) -> RowKey:
    return RowKey(row.generation, row.metrics.step)
