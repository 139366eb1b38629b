"""Fields of a sequence in a packed row, besides its tokens; without torch, as data sets write them."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

# What a data set of preferences says under these names.
PAIRS: Final = "pairs"  # among the counts of a step
SAMPLES: Final = "samples"
LEARNT: Final = "learnt"  # among the counts: tokens that are made likelier beside what is compared
REFERENCE: Final = "reference"  # among `sequence_values`: the sum of log p_reference over the answer
DESIRABLE: Final = "desirable"  # among `sequence_values`: 1 of a liked answer, 0 of another
ANSWER: Final = "answer"  # among `token_values`: 1 of an answer's token, 0 of another; absent: all are


class SequenceField(IntEnum):
    """Indices of the last dimension of `sequences`, int32 [n, D, 4]; all -1 where there is no sequence.

    The second dimension is the number of a document in its row, as in `documents`. Weights, margins and other
    fractional numbers are `sequence_values`.
    """

    SAMPLE = 0  # its sample's number: within the row, from 0, as a data set says; within the global batch, as
    # a loss sees it: place of the row x D + that. The sequences of a pair have one sample.
    SIDE = 1  # which sequence of its sample it is: 0, or of a pair 0 for the chosen and 1 for the rejected
    PROMPT = 2  # its tokens before the first that answers; 0 where it has no prompt
    LABELS = 3  # its labels that count, those on other context ranks too
