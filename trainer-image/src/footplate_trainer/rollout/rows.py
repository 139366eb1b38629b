"""From answers to the batches of a loader, in the layout of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from footplate_trainer.data.loader import BatchLoader
from footplate_trainer.parallel.mesh import Grid
from footplate_trainer.rollout.answers import AnswerDataset, TrainedAnswer, width_of
from footplate_trainer.rollout.settings import RolloutSettings


@dataclass(frozen=True)
class RowShape:
    """What rows look like."""

    context: int
    multiple: int  # that a row's places have to be of
    fixed: bool  # all rows of a run are of one width, the context's
    pad: int
    micro_batch: int


@dataclass(frozen=True)
class Rows:
    """Makes batches of answers."""

    settings: RolloutSettings
    grid: Grid
    shape: RowShape
    seed: int  # of the order of answers

    def loader(self, answers: Mapping[int, TrainedAnswer], begun: int = 0) -> BatchLoader:
        """Of `answers` by number; the first batch is that of step `begun`, from 0, where a rollout begins."""
        settings, shape = self.settings, self.shape
        longest = [len(answer) for answer in answers.values()]
        width = shape.context if shape.fixed else width_of(longest, shape.context, shape.multiple)
        epoch = begun // settings.updates * settings.epochs
        return BatchLoader(
            AnswerDataset(
                answers,
                begun * settings.batch,
                epoch,
                width,
                shape.pad,
                None if shape.fixed else shape.multiple,
            ),
            seed=self.seed,
            global_batch_size=settings.batch,
            micro_batch_size=shape.micro_batch,
            data_rank=self.grid.coordinates.data,
            data_degree=self.grid.topology.data,
        )
