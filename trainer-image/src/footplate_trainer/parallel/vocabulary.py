"""Cross-entropy when each rank of a group holds some rows of the output head.

All-gathering the logits would undo what the sharding saved. Three numbers a
token are enough: each rank's log-normaliser, the label's logit where it is
held, and the sum of logits for label smoothing.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from footplate_trainer.model.loss import VocabularyShard
from footplate_trainer.parallel.sequence import gather_sequence


def vocabulary_shard(group: dist.ProcessGroup, size: int, first: int) -> VocabularyShard:
    """The vocabulary of `size` rows of which this rank of `group` holds those from `first` on.

    Any contiguous split will do: uneven, empty on some ranks, or padded behind
    row `size`; for a loss that wants the `whole` head, an even one. One all-gather
    of 12 bytes a token and rank for each chunk; all ranks of the group must have
    the same tokens and labels.
    """

    def combine(here: Tensor) -> Tensor:
        gathered = here.new_empty(group.size() * 3, here.shape[1])
        dist.all_gather_into_tensor(gathered, here, group=group)
        normalisers, labels, totals = gathered.view(group.size(), *here.shape).unbind(1)
        return torch.stack((normalisers.logsumexp(0), labels.sum(0), totals.sum(0)))

    def whole(here: Tensor) -> Tensor:
        return gather_sequence(here[None], group)[0]

    return VocabularyShard(size, first, combine, whole, group.size())
