"""Sample prompts and answers of a step, with their rewards, for people who watch a run.

They travel with the step's row, and never instead of it: a receiver that does not know samples, or has no
room for them, drops them and keeps the row. So all of them are bounded, and their texts are made safe for a
terminal, a log and any database where they are written, and wherever they are read: safe text stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from typing import Annotated, Final

from pydantic import AfterValidator, Field, TypeAdapter

from footplate_contracts.base import IF_READABLE, WireMessage
from footplate_contracts.metrics import VALUE_NAME

MOST: Final = 8  # of a step
PROMPT_CHARACTERS: Final = 1000
ANSWER_CHARACTERS: Final = 2000
REWARDS: Final = 16  # the most a sample has
# Of a step, as the longest form of JSON has them: a rank tells its agent a row and its samples in one packet.
BYTES: Final = 48_000
CUT: Final = " […] "  # stands where something was left out
LARGEST: Final = 2**53 - 1  # a whole number that JSON carries to any reader

_SHORTEST: Final = 40  # characters that a text is cut down to where a step has more than BYTES
_CONTROLS: Final = {
    # As Unicode shows them, but for the ends of lines and tabs, which texts have.
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"},
    0x7F: 0x2421,
    **dict.fromkeys((*range(0x80, 0xA0), *range(0xD800, 0xE000)), 0xFFFD),
}
# They turn the order of what is written after them, in a log or a page, too.
_TURNING: Final = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_UNFIT: Final = {**_CONTROLS, **dict.fromkeys(_TURNING, 0xFFFD)}


def sanitize_text(text: str, most: int) -> str:
    """Replace control characters in `text`, and keep at most `most` characters of its begin and its end.

    The end of an answer is worth as much as its begin: the result stands there.

    >>> sanitize_text("a\\x1b[31mb", 20), sanitize_text("0123456789abcdefghij", 11)
    ('a␛[31mb', '012 […] hij')
    """
    shown = text.replace("\r\n", "\n").translate(_UNFIT)
    if len(shown) <= most:
        return shown
    kept = most - len(CUT)
    return shown[: kept // 2] + CUT + shown[len(shown) - (kept - kept // 2) :]


def _named(rewards: dict[str, float]) -> dict[str, float]:
    for name in rewards:
        if not VALUE_NAME.fullmatch(name):
            raise ValueError(
                f"{name[:80]!r} must be a name of at most 63 letters, digits and _ . / - that begins with a"
                " letter"
            )
    return rewards


class SampleEnd(StrEnum):
    """Reason that an answer has no more tokens."""

    END = "end"  # its last token is one that ends a text
    STOP = "stop"  # its last tokens brought a text that ends it
    LENGTH = "length"  # it has as many as were asked for, or as the context has room for


class LoggedSample(WireMessage):
    """A prompt and an answer to it, with its rewards; values that a stage does not have are absent."""

    prompt: int = Field(ge=0, le=LARGEST, description="number of the prompt in the data, in any epoch")
    sibling: int = Field(0, ge=0, le=LARGEST, description="number of the answer among those to this prompt")
    prompt_text: Annotated[str, AfterValidator(partial(sanitize_text, most=PROMPT_CHARACTERS))] = Field(
        description="at most 1,000 characters; control characters as symbols, ' […] ' for an omission"
    )
    answer_text: Annotated[str, AfterValidator(partial(sanitize_text, most=ANSWER_CHARACTERS))] = Field(
        description="at most 2,000 characters, likewise"
    )
    tokens: int = Field(ge=0, le=LARGEST, description="tokens of the answer, including its end")
    end: Annotated[SampleEnd | None, IF_READABLE] = Field(
        default=None, description="reason that it ended; absent if it was not sampled"
    )
    rewards: Annotated[dict[str, float], AfterValidator(_named)] = Field(
        default_factory=dict, max_length=REWARDS, description="unweighted rewards by name"
    )
    reward: float | None = Field(default=None, description="weighted sum of the rewards")
    advantage: float | None = Field(
        default=None, description="mean advantage over its tokens, as used in the step"
    )


ShownSamples = Annotated[list[LoggedSample] | None, Field(max_length=MOST), IF_READABLE]
"""Samples beside a row: whatever is wrong with them, the row is taken."""

_SHOWN: Final[TypeAdapter[list[LoggedSample] | None]] = TypeAdapter(ShownSamples)


def parse_samples(given: object) -> list[LoggedSample]:
    """Parse the samples in `given` (decoded JSON); return none if anything is wrong with them."""
    return truncate_samples(_SHOWN.validate_python(given) or [])


def json_bytes(samples: Sequence[LoggedSample]) -> int:
    """Return the bytes of `samples` in the longest form of JSON, in which a character has up to twelve."""
    return len(json.dumps([sample.to_json() for sample in samples]))


def truncate_samples(samples: Sequence[LoggedSample]) -> list[LoggedSample]:
    """Return the first MOST of `samples`, their texts cut until together they have at most BYTES."""
    shown, most = list(samples[:MOST]), ANSWER_CHARACTERS
    while json_bytes(shown) > BYTES and most > _SHORTEST:
        most = most * 3 // 4
        shown = [_cut(sample, most) for sample in shown]
    return shown


def _cut(sample: LoggedSample, most: int) -> LoggedSample:
    """Cut the texts of `sample` to at most `most` characters."""
    texts = {
        "prompt_text": sanitize_text(sample.prompt_text, most),
        "answer_text": sanitize_text(sample.answer_text, most),
    }
    return sample.model_copy(update=texts)
