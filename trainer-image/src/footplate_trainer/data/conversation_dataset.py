"""Conversations for stage sft: whole samples, several in a sequence where they fit, each attending to itself.

A sample begins and ends as its template renders it. The label of a position is the next token of its sample,
where that is learnt; the last token of a sample has none.
"""

from __future__ import annotations

import numpy as np

from footplate_contracts.v1alpha1.data import LossMask, OverlongPolicy, Packing
from footplate_trainer.data.bins import Bins, best_fit
from footplate_trainer.data.datasets import PACKED, Dataset
from footplate_trainer.data.order import Int64s
from footplate_trainer.data.packing import IGNORED, Sample, filler_sample
from footplate_trainer.data.sample_shards import SampleShards, select_fitting
from footplate_trainer.data.shards import TokenShards


class SampleSequences(Dataset):
    """Sequences of `context_length` positions over whole samples."""

    def __init__(
        self,
        shards: TokenShards,
        context_length: int,
        packing: Packing = PACKED,
        *,
        overlong: OverlongPolicy = OverlongPolicy.REFUSE,
    ) -> None:
        """Pack the samples; ValueError if `overlong` refuses a long sample, or if none is left."""
        self.shards = shards
        self.context_length = context_length
        self.samples = SampleShards(shards)
        self.kept = select_fitting(self.samples, context_length, overlong)
        lengths = self.kept.lengths
        if not len(lengths):
            raise ValueError(f"no sample in {shards.uri} fits into contextLength {context_length}")
        self.bins = (
            best_fit(lengths, context_length) if packing.enabled else _a_bin_each(lengths, context_length)
        )

    def __len__(self) -> int:
        """Return the number of sequences in one epoch."""
        return len(self.bins)

    def __str__(self) -> str:
        kept = self.kept
        lost = f"; {kept.cut} were cut and {kept.dropped} dropped" if kept.cut or kept.dropped else ""
        return (
            f"{len(kept.numbers)} samples in {len(self)} sequences of {self.context_length} tokens, "
            f"{self.bins.used:.1%} of them used{lost}"
        )


class ConversationDataset(SampleSequences):
    """Sequences over samples of format chat."""

    def __init__(
        self,
        shards: TokenShards,
        context_length: int,
        packing: Packing = PACKED,
        *,
        mask: LossMask | None = None,
        overlong: OverlongPolicy = OverlongPolicy.REFUSE,
    ) -> None:
        """Open the samples with `mask`; None: the mask of packing.

        Raises the errors of SampleSequences, and ValueError for a mask that the shards do not have.
        """
        self._all = _learns_all(shards, mask)
        super().__init__(shards, context_length, packing, overlong=overlong)

    def get(self, sample_id: int, index: int = 0) -> Sample:
        """See Dataset; documents are numbered by their order in the sequence."""
        row = filler_sample(self.context_length, self.shards.special.padding)
        if sample_id < 0:
            return row
        for number, kept in enumerate(self.bins.samples(sample_id)):
            start, length = int(self.bins.start[kept]), int(self.bins.lengths[kept])
            document = self.samples[int(self.kept.numbers[kept])].documents[0]
            tokens = document.tokens[:length]
            row.tokens[start : start + length] = tokens
            row.documents[start : start + length] = number
            learnt = np.ones(length, dtype=bool) if self._all else document.learnt
            assert learnt is not None, "a sample of format chat has a mask"
            row.labels[start : start + length - 1] = np.where(learnt[1:length], tokens[1:], IGNORED)
        return row


def _learns_all(shards: TokenShards, mask: LossMask | None) -> bool:
    """Return whether all tokens are learnt; ValueError for a mask that is neither all nor that of packing."""
    assert shards.manifest.samples is not None, shards.format
    packed = shards.manifest.samples.mask
    if mask not in (None, LossMask.ALL, packed):
        raise ValueError(
            f"data.mask {mask}: the samples in {shards.uri} were packed with --mask {packed}; pack them "
            f"again with --mask {mask}, or remove data.mask"
        )
    return mask is LossMask.ALL


def _a_bin_each(lengths: Int64s, size: int) -> Bins:
    return Bins(size, lengths, np.arange(len(lengths), dtype=np.int64), np.zeros_like(lengths))
