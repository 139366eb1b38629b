"""State of a rollout after a restart, merged from all generations' files: pure.

Each generation, and each of its ranks, writes its own files, so a rank that was frozen and resumes changes
nothing that another rank has written; its records are further copies of existing or future ones: an answer is
a function of its key. Copies may differ in their last bits, if layouts do. Then the newest generation's copy
counts, as others may have continued from it, and rewards and scores of another copy do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from footplate_contracts.reports import GenerationId
from footplate_trainer.rewards.reward_samples import Outcome, SampleKey
from footplate_trainer.rollout.journal_records import (
    Float32s,
    Record,
    RewardsRecord,
    SampleRecord,
    ScoresRecord,
)


@dataclass
class RolloutState:
    """Finished answers of one rollout, with their rewards and scores."""

    samples: dict[SampleKey, SampleRecord] = field(default_factory=dict)
    rewards: dict[SampleKey, dict[str, float | str]] = field(default_factory=dict)
    scores: dict[tuple[str, SampleKey], Float32s] = field(default_factory=dict)  # by model and answer
    unsettled: list[RewardsRecord] = field(default_factory=list)  # of `rewards`, what no file holds

    def add(self, records: Iterable[Record]) -> None:
        """Add finished records; rewards and scores must be of known answers."""
        for record in records:
            if isinstance(record, SampleRecord):
                self.samples[record.key] = record
            elif isinstance(record, RewardsRecord):
                self.rewards.setdefault(record.key, {}).update(record.values)
                if not record.settled:
                    self.unsettled.append(record)
            else:
                self.scores[record.name, record.key] = record.values


@dataclass(frozen=True)
class CollectedRollout:
    """Answers of all ranks with their rewards, equal on every rank."""

    step: int  # after which it began
    first: int  # place of its first prompt
    asked: int  # groups in all
    places: Sequence[int]  # of the prompts whose groups are trained on
    drawn: int  # answers that were drawn just now; the others are from before a restart
    kept: RolloutState
    sums: Mapping[SampleKey, Outcome]
    weights: Mapping[str, float] = field(default_factory=dict)  # of each reward in the sums, by name

    def keys(self, group: int) -> list[list[SampleKey]]:
        """Return keys of the answers to train on; each inner list is a group of siblings."""
        return [[SampleKey(self.step, place, sibling) for sibling in range(group)] for place in self.places]


def merge_records(files: Mapping[GenerationId, Iterable[Record]]) -> RolloutState:
    """Merge the records of each generation's files, with one copy of each answer."""
    kept = RolloutState()
    ordered = sorted(files, key=lambda generation: (generation.epoch, generation.number))
    records = [record for generation in ordered for record in files[generation]]
    kept.add(record for record in records if isinstance(record, SampleRecord))
    marks = {key: sample.mark for key, sample in kept.samples.items()}
    kept.add(
        record
        for record in records
        if isinstance(record, RewardsRecord | ScoresRecord) and marks.get(record.key) == record.mark
    )
    return kept
