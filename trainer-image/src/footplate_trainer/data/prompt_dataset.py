"""The prompts of a run, by their position in an endless order.

A position is used once: epochs follow each other, each of them all prompts in another order. So the prompts
of a rollout follow from its first position in that order, whatever the number of ranks and however often the
run was interrupted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from footplate_trainer.data.datasets import Dataset
from footplate_trainer.data.mixture import Mixture
from footplate_trainer.data.order import Int64s
from footplate_trainer.data.packing import Sample, filler_sample
from footplate_trainer.data.sample_shards import SampleShards
from footplate_trainer.data.shards import TokenShards


@dataclass(frozen=True)
class Prompt:
    """A prompt's tokens, and the columns that its answers are scored by."""

    place: int  # in the endless order
    tokens: Int64s  # [n]
    columns: Mapping[str, Any]
    turn_end: Sequence[int] = ()  # what a template writes behind an answer, from the token that ends it on

    @property
    def is_plain_text(self) -> bool:
        """True if no template rendered the prompt."""
        return is_plain_text(self.columns)

    def tokens_after_end(self, end: int) -> Sequence[int]:
        """Return the tokens that a packed conversation would have after an answer that token `end` ends."""
        known = list(self.turn_end)
        return known[known.index(end) + 1 :] if end in known else ()

    @property
    def max_tokens_after_end(self) -> int:
        """The maximum length of `tokens_after_end`."""
        return max(0, len(self.turn_end) - 1)


def is_plain_text(columns: Mapping[str, Any]) -> bool:
    """Return whether a prompt with these `columns` was packed as a text, to which no template is applied."""
    return isinstance(columns.get("prompt"), str)


def has_rendered_prompt(prompts: SampleShards) -> bool:
    """Return whether a template rendered any of the prompts; reads up to the first that it rendered."""
    samples = (prompts[number] for number in range(len(prompts)))
    return any(not is_plain_text(sample.columns or {}) for sample in samples)


class PromptDataset(Dataset):
    """Prompts of one folder, all short enough for an answer within the context."""

    def __init__(self, shards: TokenShards, context_length: int) -> None:
        """Open the prompts; ValueError if there are none, or some fill the context."""
        self.shards, self.context_length = shards, context_length
        self._samples, record = SampleShards(shards), shards.manifest.samples
        self._template = record is not None and record.template is not None
        self._turn_end = None if record is None else record.turn_end
        if not len(self._samples):
            raise ValueError(f"{shards.uri} has no prompt")
        lengths = self._samples.lengths
        too_long = int(np.count_nonzero(lengths >= context_length))
        if too_long:
            raise ValueError(
                f"{shards.uri} has {too_long} prompts that leave no room for an answer in contextLength "
                f"{context_length}, the longest with {int(lengths.max())} tokens; raise it, or pack with "
                "--context-length and --overlong drop"
            )

    def __len__(self) -> int:
        """Return the number of prompts in one epoch."""
        return len(self._samples)

    def __str__(self) -> str:
        return f"{len(self)} prompts of {int(self._samples.lengths.max())} tokens at most"

    def get(self, sample_id: int, index: int = 0) -> Sample:
        """Return the prompt as a sequence without labels; see Dataset."""
        row = filler_sample(self.context_length, self.shards.special.padding)
        if sample_id >= 0:
            tokens = self._samples[sample_id].documents[0].tokens
            row.tokens[: len(tokens)] = tokens
            row.documents[: len(tokens)] = 0
        return row

    @property
    def columns(self) -> frozenset[str]:
        """The names of all columns that any of the prompts has; reads them all."""
        return self._samples.column_names

    @property
    def answer_capacity(self) -> Int64s:
        """The number of tokens that the context has left after each prompt: int64 [n]."""
        left: Int64s = self.context_length - self._samples.lengths
        return left

    def check_answer_capacity(self, closing: int = 0) -> None:
        """Raise ValueError if a prompt leaves no context for an answer and the template's tokens after it.

        Also if the template was applied and the manifest does not record those tokens. `closing` more tokens
        may follow them.
        """
        if self._template and self._turn_end is None and has_rendered_prompt(self._samples):
            raise ValueError(
                f"{self.shards.uri} does not record what its chat template writes after an answer, which "
                "scores depend on: an earlier release packed it, or the template accepts no plain question "
                "and answer; pack the prompts again, which writes the same shards"
            )
        longest, behind = int(self._samples.lengths.max()), max(0, len(self._turn_end or ()) - 1) + closing
        if longest + behind >= self.context_length:
            raise ValueError(
                f"{self.shards.uri} has a prompt of {longest} tokens, and the template writes {behind} more "
                f"after an answer: that leaves no room for one in contextLength {self.context_length}; raise "
                "it, or pack with --context-length and --overlong drop"
            )

    def prompt(self, sample_id: int, place: int) -> Prompt:
        """Return prompt `sample_id`, used at position `place`."""
        stored = self._samples[sample_id]
        columns = stored.columns or {}
        # A prompt that is a text was rendered by no template, and neither is a text that goes on with it.
        end = () if is_plain_text(columns) else self._turn_end or ()
        return Prompt(place, stored.documents[0].tokens.astype(np.int64), columns, end)


@dataclass(frozen=True)
class PromptOrder:
    """The prompts of all folders in the endless order of `seed`."""

    dataset: Dataset  # PromptDataset, or a Mixture of them
    seed: int

    @property
    def columns(self) -> frozenset[str]:
        """The names of all columns that any prompt of any folder has, whatever the seed; reads them all."""
        return frozenset().union(*(part.columns for part in self._parts))

    def check_answer_capacity(self, closing: int = 0) -> None:
        """See PromptDataset."""
        for part in self._parts:
            part.check_answer_capacity(closing)

    def truncation_warning(self, most: int) -> str:
        """Return a warning if the context cuts off answers before they have `most` tokens, else ""."""
        room = np.concatenate([part.answer_capacity for part in self._parts])
        short = int(np.count_nonzero(room < most))
        if not short:
            return ""
        context = self._parts[0].context_length
        return (
            f"{short} of {len(room)} prompts leave an answer less than rollout.maxTokens {most} of "
            f"model.contextLength {context}, one of them {int(room.min())}; raise contextLength, lower "
            "maxTokens, or drop these prompts: an answer that reaches the limit counts as cut off"
        )

    @property
    def _parts(self) -> Sequence[PromptDataset]:
        dataset = self.dataset
        parts = [part.dataset for part in dataset.sources] if isinstance(dataset, Mixture) else [dataset]
        return [part for part in parts if isinstance(part, PromptDataset)]

    def prompt_id(self, place: int) -> int:
        """Return the prompt's id among all folders, which is the same in each epoch."""
        return int(self.dataset.sample_ids(self.seed, np.array([place], dtype=np.int64))[0])

    def at(self, place: int) -> Prompt:
        """Return the prompt at a position of the order, from 0."""
        dataset, number = self.dataset, self.prompt_id(place)
        if isinstance(dataset, Mixture):
            dataset, number = dataset.source_of(number)
        assert isinstance(dataset, PromptDataset), dataset
        return dataset.prompt(number, place)


@dataclass(frozen=True)
class AppendedEndTokens:
    """End tokens of answers that a stop text ended, by the kind of prompt; None if nothing defines one.

    In a conversation the chat template ends a turn; a text, which no template wrote, ends with the
    tokenizer's end of text, or else as a turn does.
    """

    of_turn: int | None
    of_text: int | None

    def for_prompt(self, prompt: Prompt) -> int | None:
        """Return the end token of an answer to `prompt`."""
        return self.of_text if prompt.is_plain_text and self.of_text is not None else self.of_turn
