"""A reward model's scores of a rollout's answers: computed by all ranks in the run's layout, and journalled.

Answers are scored a batch at a time, and each batch is in the journal before the next: an interruption costs
one batch, which is computed again from the same rows with the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from footplate_contracts.reports import RankPhase
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.data import order
from footplate_trainer.data.prompt_dataset import AppendedEndTokens, Prompt, PromptOrder
from footplate_trainer.generation.requests import EndReason
from footplate_trainer.loop.inputs import StepInputs
from footplate_trainer.parallel.parallel_model import ParallelModel
from footplate_trainer.parallel.reward_objective import sequence_score_collector
from footplate_trainer.parallel.world import DistributedContext
from footplate_trainer.rewards.reward_samples import SampleKey
from footplate_trainer.rollout.answer_dataset import AnswerRow, RowBatcher
from footplate_trainer.rollout.journal import Journal, journal_batches
from footplate_trainer.rollout.journal_records import RewardsRecord, RolloutState, SampleRecord

MODEL: Final = "model"  # what its reward is called


@dataclass(frozen=True)
class RewardModel:
    """A frozen model that gives a sequence one score."""

    model: ParallelModel
    weight: float  # of its reward in the sum
    rows: RowBatcher
    prompts: PromptOrder
    inputs: StepInputs
    journal: Journal
    world: DistributedContext
    reporter: Reporter
    closing: AppendedEndTokens | None = (
        None  # of answers that a text stopped, where they are read with an end
    )

    def max_answer_tokens(self, prompt: Prompt) -> int:
        """Return the most tokens of an answer to `prompt`, given what is appended to it in a row."""
        behind = prompt.max_tokens_after_end + (self._closing(prompt) is not None)
        return self.rows.shape.context - len(prompt.tokens) - behind

    def _closing(self, prompt: Prompt) -> int | None:
        return None if self.closing is None else self.closing.for_prompt(prompt)

    def complete(self, kept: RolloutState, keys: Sequence[SampleKey], stopping: Callable[[], bool]) -> bool:
        """Score the answers `keys` of `kept`; return False if `stopping` came first. Collective."""
        if not keys or _are_scored(kept, keys):
            return True
        return journal_batches(self._scored(kept, keys), kept.add, self.journal, self.world, stopping)

    def _scored(self, kept: RolloutState, keys: Sequence[SampleKey]) -> Iterator[list[RewardsRecord]]:
        """Yield raw scores of this rank's rows by batch; an empty list if known or another rank's."""
        grid, batch_size = self.rows.grid, self.rows.settings.batch
        first = grid.coordinates.tensor == grid.coordinates.context == 0
        asked = ((key, self.prompts.at(key.prompt)) for key in keys)
        answers = [
            reward_model_row(prompt, kept.samples[key], self._closing(prompt)) for key, prompt in asked
        ]
        loader = self.rows.once(dict(enumerate(answers)))
        for number in range(-(-len(keys) // batch_size)):
            self.reporter.report_phase(RankPhase.SCORING, progress=number * batch_size)
            batch = loader.build(number)
            numbers = batch.sample_ids.tolist()
            if _are_scored(kept, [keys[row] for row in numbers if row != order.FILLER]):
                yield []
                continue
            micro_batches = [self.inputs(micro, 0) for micro in batch.micro_batches]
            collected = sequence_score_collector(grid.context_group)
            with torch.no_grad():
                self.model.passes.evaluate(micro_batches, collected)
            told: list[RewardsRecord] = []
            micros = zip(batch.micro_batches, micro_batches, strict=True)
            for micro, given in micros if first and collected.in_order else ():
                scores = collected.numbers_for(given.targets)[:, 0].tolist()
                for place, score in zip(micro.places.tolist(), scores, strict=True):
                    row = order.FILLER if place == order.FILLER else numbers[place]
                    if row != order.FILLER:
                        key = keys[row]
                        told.append(RewardsRecord(key, kept.samples[key].mark, {MODEL: score}))
            yield told


def _are_scored(kept: RolloutState, keys: Sequence[SampleKey]) -> bool:
    return all(MODEL in kept.rewards.get(key, {}) for key in keys)


def reward_model_row(prompt: Prompt, sample: SampleRecord, closing: int | None = None) -> AnswerRow:
    """Build the row that a reward model reads: it ends where the model's training conversations do.

    An answer that a stop text ended does so too if token `closing` is appended to it. Otherwise that answer,
    and an answer that `maxTokens` ended, is scored at its own last token.
    """
    behind: Sequence[int] = ()
    if sample.reason == EndReason.END:
        behind = prompt.tokens_after_end(int(sample.tokens[-1]))
    elif sample.reason == EndReason.STOP and closing is not None:
        behind = (closing, *prompt.tokens_after_end(closing))
    return AnswerRow(
        prompt.tokens, np.concatenate((sample.tokens, np.array(behind, dtype=np.int32))), counts=True
    )
