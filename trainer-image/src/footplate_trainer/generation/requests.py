"""What is asked of an engine, and what it answers.

Tokens go in and tokens come out: nothing here is text that would have to be
encoded again, as what a text encodes to need not be what was drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_IN_FRONT: Final = 4


class EndReason(StrEnum):
    """Why an answer has no more tokens."""

    END = "end"  # its last token is one that ends a text
    STOP = "stop"  # its last tokens brought a text that ends it
    LENGTH = "length"  # it has as many as were asked for, or as the context has room for


@dataclass(frozen=True)
class Request:
    """An answer to a prompt; siblings are other answers to the same one."""

    prompt: int  # its number; with `sibling` it decides what is drawn
    sibling: int
    tokens: Sequence[int]
    most: int  # tokens to be drawn


@dataclass(frozen=True)
class Answer:
    """The tokens drawn for a request, the one that ends it among them."""

    request: Request
    tokens: list[int]
    sampled: list[float]  # fp32: log-probability of each among those that could be drawn
    full: list[float]  # fp32: its log-probability as the model has it, at temperature 1 and of all tokens
    reason: EndReason


def before_stop(text: str, stops: Iterable[str]) -> str:
    """An answer's `text` in front of the first of the texts that stop one; all of it where it has none."""
    return text[: min((place for stop in stops if (place := text.find(stop)) >= 0), default=len(text))]


@dataclass(frozen=True)
class StopRule:
    """What ends an answer before it has all tokens that were asked for."""

    ends: frozenset[int] = frozenset()  # tokens
    texts: tuple[str, ...] = ()
    text_of: Callable[[Sequence[int]], str] | None = None  # needed where there are `texts`

    def __post_init__(self) -> None:
        if "" in self.texts:
            raise ValueError("an empty stop text would end every answer; leave it out")
        if self.texts and self.text_of is None:
            raise ValueError("stop texts need somebody who knows the text of tokens")

    def reason(self, tokens: Sequence[int], most: int) -> EndReason | None:
        """Why `tokens`, the answer so far, end here, of which all but the last did not; None: they go on."""
        if tokens[-1] in self.ends:
            return EndReason.END
        if self.texts and self.text_of is not None and self._stops(self.text_of, tokens):
            return EndReason.STOP
        return EndReason.LENGTH if len(tokens) >= most else None

    def _stops(self, text_of: Callable[[Sequence[int]], str], tokens: Sequence[int]) -> bool:
        """Whether the last token completed a stop text.

        A token is at least a byte of text, so that many of the last are enough, and a few in
        front of them, as the first of a text may lose a space.
        """
        longest = max(len(text.encode()) for text in self.texts)
        text = text_of(tokens[-(longest + _IN_FRONT) :])
        return any(stop in text for stop in self.texts)
