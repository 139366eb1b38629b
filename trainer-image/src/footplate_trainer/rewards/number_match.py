"""Reward for the number after a delimiter in an answer, compared with the reference answer's.

Data sets of arithmetic write their solutions so: `… so she has 1,200 left. #### 1,200`.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final

from footplate_trainer.rewards.reward_values import truncate

# Thousands are parted by commas, three digits each; a sign counts where no number or word stands before it.
_NUMBER: Final = re.compile(
    r"(?:(?<![0-9A-Za-z.])[-+−])?[$€£]?"
    r"(?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|(?<![0-9])\.[0-9]+)"
)

_AS_PYTHON: Final = str.maketrans({"−": "-", **dict.fromkeys(",$€£")})


def last_number(text: str) -> Decimal | None:
    """Return the last number that `text` writes in decimal digits; 1,000.0 and 1000 are equal."""
    found = _NUMBER.findall(text)
    return Decimal(found[-1].translate(_AS_PYTHON)) if found else None


def number_after(text: str, delimiter: str) -> Decimal | None:
    """Return the last number after the last `delimiter` in `text`; None without either."""
    _, found, behind = text.rpartition(delimiter)
    return last_number(behind) if found else None


def reference_number(value: Any, delimiter: str) -> Decimal | None:
    """Return the number of a reference answer: a number, or a text with it after `delimiter` or last."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        number = Decimal(repr(value))
        return number if number.is_finite() else None
    if not isinstance(value, str):
        return None
    return number_after(value, delimiter) if delimiter in value else last_number(value)


def reward(answer: str, reference: Any, delimiter: str) -> float | str:
    """Return 1 if both numbers are equal, else 0; an error text if the reference answer has no number."""
    expected = reference_number(reference, delimiter)
    if expected is None:
        return f"the reference answer {truncate(repr(reference))} has no number"
    return float(number_after(answer, delimiter) == expected)
