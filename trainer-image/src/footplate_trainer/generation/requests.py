"""Requests to an engine, and its answers.

Tokens go in and tokens come out: there is no text that would have to be
encoded again, as a text need not encode to the tokens that were sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Final

_IN_FRONT: Final = 4


class EndReason(StrEnum):
    """Reason why an answer has no more tokens."""

    END = "end"  # its last token is one that ends a text
    STOP = "stop"  # its last tokens brought a text that ends it
    LENGTH = "length"  # it has as many as were asked for, or as the context has room for


@dataclass(frozen=True)
class GenerationRequest:
    """A request for an answer to a prompt; siblings are other answers to the same prompt."""

    prompt: int  # its number; with `sibling` it decides what is drawn
    sibling: int
    tokens: Sequence[int]
    most: int  # tokens to be drawn


@dataclass(frozen=True)
class GeneratedAnswer:
    """The tokens sampled for a request, including the token that ends it."""

    request: GenerationRequest
    tokens: list[int]
    sampled: list[float]  # fp32: log-probability of each among those that could be drawn
    full: list[float]  # fp32: its log-probability as the model has it, at temperature 1 and of all tokens
    reason: EndReason


def truncate_at_stop(text: str, stops: Iterable[str]) -> str:
    """Return an answer's `text` up to the first stop text; all of it if it has none."""
    return text[: min((place for stop in stops if (place := text.find(stop)) >= 0), default=len(text))]


@dataclass(frozen=True)
class StopRule:
    """Conditions that end an answer before its requested number of tokens."""

    ends: frozenset[int] = frozenset()  # tokens
    texts: tuple[str, ...] = ()
    text_of: Callable[[Sequence[int]], str] | None = None  # needed where there are `texts`

    def __post_init__(self) -> None:
        if "" in self.texts:
            raise ValueError("an empty stop text would end every answer; remove it")
        if self.texts and self.text_of is None:
            raise ValueError("stop texts need a tokenizer that decodes tokens")

    def end_reason(self, tokens: Sequence[int], most: int) -> EndReason | None:
        """Return why `tokens`, the answer so far, end with the last one; None if they go on."""
        if tokens[-1] in self.ends:
            return EndReason.END
        if self.texts and self.text_of is not None and self._stops(self.text_of, tokens):
            return EndReason.STOP
        return EndReason.LENGTH if len(tokens) >= most else None

    def _stops(self, text_of: Callable[[Sequence[int]], str], tokens: Sequence[int]) -> bool:
        """Return whether the last token completed a stop text.

        A token is at least a byte of text, so as many of the last tokens are enough, and a few
        before them, as the first of a text may lose a space.
        """
        longest = max(len(text.encode()) for text in self.texts)
        text = text_of(tokens[-(longest + _IN_FRONT) :])
        return any(stop in text for stop in self.texts)


def partition_requests(requests: Sequence[GenerationRequest], copies: int) -> list[list[GenerationRequest]]:
    """Split requests into consecutive parts, one for each of `copies`, whose sizes differ by at most one.

    An answer is the same wherever it is sampled; siblings of a prompt, which share its keys, stay together.
    """
    assert copies > 0
    bounds = [len(requests) * copy // copies for copy in range(copies + 1)]
    return [list(requests[first:end]) for first, end in pairwise(bounds)]
