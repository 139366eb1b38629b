"""Batches of answers from a loader, in a run's layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from footplate_trainer.data.loader import BatchLoader
from footplate_trainer.parallel.mesh import Grid
from footplate_trainer.rollout.answer_dataset import AnswerDataset, AnswerRow, width_of
from footplate_trainer.rollout.settings import RolloutSettings


@dataclass(frozen=True)
class RowShape:
    """The shape of rows."""

    context: int
    multiple: int  # that a row's places have to be of
    fixed: bool  # all rows of a run are of one width, the context's
    pad: int
    micro_batch: int


@dataclass(frozen=True)
class RowBatcher:
    """A builder of loaders of answers."""

    settings: RolloutSettings
    grid: Grid
    shape: RowShape
    seed: int  # of the order of answers

    def loader(self, answers: Mapping[int, AnswerRow], begun: int = 0) -> BatchLoader:
        """Return a loader of `answers` by number; its first batch is that of step `begun`, from 0."""
        epoch = begun // self.settings.updates * self.settings.epochs
        return self._loader(answers, begun, epoch, once=False)

    def once(self, answers: Mapping[int, AnswerRow], begun: int = 0) -> BatchLoader:
        """Return a loader that has each answer once; the last batch is filled up to the common size.

        For scoring any number of answers: two scores of one answer may differ in their last bits, if its
        place in a micro-batch does.
        """
        # Whose batch has room for more than a rollout updates nothing with it, and begins at 0.
        epoch = begun and begun // self.settings.updates * self.settings.epochs
        return self._loader(answers, begun, epoch, once=True)

    def _loader(self, answers: Mapping[int, AnswerRow], begun: int, epoch: int, *, once: bool) -> BatchLoader:
        settings, shape = self.settings, self.shape
        longest = [len(answer) for answer in answers.values()]
        width = shape.context if shape.fixed else width_of(longest, shape.context, shape.multiple)
        return BatchLoader(
            AnswerDataset(
                answers,
                begun * settings.batch,
                epoch,
                width,
                shape.pad,
                None if shape.fixed else shape.multiple,
                once=once,
            ),
            seed=self.seed,
            global_batch_size=settings.batch,
            micro_batch_size=shape.micro_batch,
            data_rank=self.grid.coordinates.data,
            data_degree=self.grid.topology.data,
        )
