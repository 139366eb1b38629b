"""The score of a sequence: the output of a one-output head for the hidden state of its last token.

The last token's position follows from the document numbers. Nothing searches for padding: in many models the
padding id is also the id with which a text ends, and a search for it finds the score of another token.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from footplate_trainer.model.inputs import Targets

# What held-out scores are, as rows call it: stages that use them divide by the one, less the other.
MEAN: Final = "score/mean"
DEVIATION: Final = "score/deviation"


def last_token_positions(documents: Tensor, most: int) -> Tensor:
    """Return the position in its row of each sequence's last token: int64 [n, most], -1 for no sequence.

    `documents` [n, length] numbers the sequence of each position, from 0 in each row; -1 is none.
    """
    places = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    ends = torch.full((len(documents), most), -1, device=documents.device)
    there = torch.where(documents >= 0, places, -1)
    return ends.scatter_reduce(1, documents.clamp(min=0).long(), there, "amax")


def compute_sequence_scores(hidden: Tensor, head: Tensor, targets: Targets) -> Tensor:
    """Score each sequence whose last token is among the positions of `hidden`, 0 elsewhere: fp32 [n, D].

    `hidden` [n, length, width] at `targets.positions` of the rows, `head` [1, width].
    """
    assert targets.sequences is not None, "this data has no sequences"
    ends = last_token_positions(targets.documents, targets.sequences.shape[1])
    if targets.positions is not None:  # from places in the row to those here
        here = torch.full((targets.documents.shape[1] + 1,), -1, device=ends.device)
        here[targets.positions] = torch.arange(len(targets.positions), device=ends.device)
        ends = here[ends]  # of -1 the last, which is -1
    where = (ends >= 0).nonzero(as_tuple=True)
    given = functional.linear(hidden[where[0], ends[where]].float(), head.float()).squeeze(1)
    return torch.zeros(ends.shape, device=ends.device).index_put(where, given)
