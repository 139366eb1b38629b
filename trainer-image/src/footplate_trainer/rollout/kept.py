"""What is known of a rollout after a restart, from the files of all who worked at it: pure.

Each generation, and each of its ranks, writes files of its own, so one that was frozen and wakes up changes
nothing that another has written; what it adds are further copies of what is there, or will be: an answer is
a function of its key. Copies may differ in their last bits, where layouts do. Then the newest generation's
counts, as it is the one that others may have gone on from, and what was said of another copy does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from footplate_contracts.reports import GenerationId
from footplate_trainer.rewards.samples import Outcome, SampleKey
from footplate_trainer.rollout.records import Float32s, Record, RewardsRecord, SampleRecord, ScoresRecord


@dataclass
class KeptRollout:
    """Finished answers of one rollout, and what has been said of them."""

    samples: dict[SampleKey, SampleRecord] = field(default_factory=dict)
    rewards: dict[SampleKey, dict[str, float | str]] = field(default_factory=dict)
    scores: dict[tuple[str, SampleKey], Float32s] = field(default_factory=dict)  # by model and answer
    unsettled: list[RewardsRecord] = field(default_factory=list)  # of `rewards`, what no file holds

    def add(self, records: Iterable[Record]) -> None:
        """What was finished here; of answers that are known."""
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
class GatheredRollout:
    """Answers of all ranks with their rewards, the same everywhere."""

    step: int  # after which it began
    first: int  # place of its first prompt
    asked: int  # groups in all
    places: Sequence[int]  # of the prompts whose groups are trained on
    drawn: int  # answers that were drawn just now; the others are from before a restart
    kept: KeptRollout
    sums: Mapping[SampleKey, Outcome]
    weights: Mapping[str, float] = field(default_factory=dict)  # of each reward in the sums, by name

    def keys(self, group: int) -> list[list[SampleKey]]:
        """Of the answers that are trained on; siblings in a row."""
        return [[SampleKey(self.step, place, sibling) for sibling in range(group)] for place in self.places]


def merged(files: Mapping[GenerationId, Iterable[Record]]) -> KeptRollout:
    """All that the files of each generation hold, an answer once."""
    kept = KeptRollout()
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
