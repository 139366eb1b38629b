"""A mixture of several data sets in fixed shares, without state.

Sources alternate in a cycle that is computed once from the weights: the "chairman assignment" of Tijdeman
(Discrete Mathematics 32, 1980), in which each source is within less than one sample of its share in every
prefix. The source of sample i of the global order, and the number of its earlier samples, are then two table
look-ups at i modulo the cycle, so any rank of any world computes them for any i. Each source has its own
permutation and its own epochs, under a key made of the seed and its name: adding a source shuffles no other.

Weights as people write them (0.7, 0.2, 0.1; 3, 1) result in exact shares. If they have no common denominator
up to MOST_TURNS, shares are rounded to that.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

import numpy as np

from footplate_trainer.data import order
from footplate_trainer.data.datasets import Dataset
from footplate_trainer.data.order import Int64s
from footplate_trainer.data.packing import Sample
from footplate_trainer.data.sample_shards import SampleDocument

MOST_TURNS: Final = 1 << 14


@dataclass(frozen=True)
class MixtureSource:
    """A data set of a mixture; `weight` > 0 is relative to the others'."""

    name: str
    weight: float
    dataset: Dataset


class Mixture(Dataset):
    """Several sources as one data set; a sample's id is its own plus the lengths of the sources before it."""

    def __init__(self, sources: Sequence[MixtureSource]) -> None:
        self.sources = tuple(sources)
        self._first_id = np.cumsum([0] + [len(source.dataset) for source in sources])
        self._turns = source_cycle([source.weight for source in sources])
        each = np.arange(len(sources))[:, None] == self._turns[None, :]
        # [sources, turns + 1]: how many samples a source gave before each turn of a cycle
        self._given = np.concatenate(
            (np.zeros((len(sources), 1), dtype=np.int64), each.cumsum(axis=1)), axis=1
        )
        fillers = (source.dataset.get(order.FILLER).sequences for source in sources)
        self._most = max(0 if table is None else table.shape[-2] for table in fillers)

    def __str__(self) -> str:
        said = ((source.name, str(source.dataset)) for source in self.sources)
        return "; ".join(f"{name}: {what}" for name, what in said if what)

    def __len__(self) -> int:
        """See Dataset; samples in all sources."""
        return int(self._first_id[-1])

    def sample_ids(self, seed: int, indices: Int64s) -> Int64s:
        cycle, turn = np.divmod(indices, len(self._turns))
        chosen = self._turns[turn]
        places = cycle * self._given[chosen, -1] + self._given[chosen, turn]
        ids = np.empty_like(indices)
        for number, source in enumerate(self.sources):
            mine = chosen == number
            if mine.any():
                own = order.sample_ids(source_seed(seed, source.name), places[mine], len(source.dataset))
                ids[mine] = own + self._first_id[number]
        return ids

    def document_for_next(self, sample_id: int) -> SampleDocument | None:
        source, own = self.source_of(sample_id)
        return source.document_for_next(own)

    def get(self, sample_id: int, index: int = 0) -> Sample:
        source, own = self.source_of(sample_id)
        return _widened(source.get(own, index), self._most)

    def get_with_document(self, sample_id: int, index: int, handed: SampleDocument | None) -> Sample:
        """See Dataset; `handed` may come from another source."""
        source, own = self.source_of(sample_id)
        return _widened(source.get_with_document(own, index, handed), self._most)

    def source_of(self, sample_id: int) -> tuple[Dataset, int]:
        """Return the source of a sample, and its id there; for a filler the first source."""
        if sample_id < 0:
            return self.sources[0].dataset, sample_id
        number = int(np.searchsorted(self._first_id, sample_id, side="right")) - 1
        return self.sources[number].dataset, sample_id - int(self._first_id[number])

    @property
    def count_names(self) -> tuple[str, ...]:
        """See Dataset; all sources are of one format."""
        return self.sources[0].dataset.count_names

    def counts(self, sample: Sample) -> tuple[int, ...]:
        return self.sources[0].dataset.counts(sample)


def _widened(sample: Sample, most: int) -> Sample:
    """Pad the sequences of `sample` to `most`, the largest number in a row of any source."""
    if sample.sequences is None:
        return sample
    more = most - sample.sequences.shape[-2]
    if not more:
        return sample
    return replace(
        sample,
        sequences=np.pad(sample.sequences, ((0, more), (0, 0)), constant_values=-1),
        sequence_values={name: np.pad(row, (0, more)) for name, row in sample.sequence_values.items()},
    )


def source_seed(seed: int, name: str) -> int:
    """Return the seed of one source's own order, in 0 … 2**63 - 1."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8, person=b"footplate-source").digest()
    return int.from_bytes(digest, "little") >> 1


def source_cycle(weights: Sequence[float]) -> Int64s:
    """Return the source at each position of one cycle: int64 [turns], each as often as its share says.

    In every prefix each source is within less than 1 of its share of `weights`.
    """
    counts = source_counts(weights)
    total, several = sum(counts), len(counts)
    if several == 1:
        return np.zeros(1, dtype=np.int64)
    count = np.array(counts, dtype=np.int64)
    slack = total / (2 * several - 2)
    owed = np.zeros(several, dtype=np.int64)  # share x turns taken - total x times chosen
    chosen = np.empty(total, dtype=np.int64)
    for turn in range(total):
        owed += count
        # Of those that are due, the one that would fall behind first.
        urgency = np.where(owed >= slack, (total - slack - owed) / count, np.inf)
        chosen[turn] = winner = int(urgency.argmin())
        owed[winner] -= total
    return chosen


def source_counts(weights: Sequence[float]) -> list[int]:
    """Return each source's number of samples in one cycle: the smallest integers in the ratio of `weights`.

    Where their sum would exceed MOST_TURNS, they are rounded to that sum, by largest remainder and at least 1
    each.
    """
    exact = [Fraction(str(weight)) for weight in weights]
    whole = _whole(exact)
    if sum(whole) <= MOST_TURNS:
        return whole
    free = MOST_TURNS - len(exact)
    ideal = [weight / sum(exact) * free for weight in exact]
    counts = [math.floor(share) for share in ideal]
    by_remainder = sorted(range(len(exact)), key=lambda place: (counts[place] - ideal[place], place))
    for place in by_remainder[: free - sum(counts)]:
        counts[place] += 1
    return _whole([Fraction(1 + count) for count in counts])


def _whole(ratios: Sequence[Fraction]) -> list[int]:
    scale = math.lcm(*(ratio.denominator for ratio in ratios))
    counts = [int(ratio * scale) for ratio in ratios]
    divisor = math.gcd(*counts)
    return [count // divisor for count in counts]
