"""Redacts secrets in the output of a function's process. Pure.

A key may come back unchanged, as Python or a URL writes it, a line at a time, or cut off where a text was
truncated. Other transformations, such as a hash or Base64, are not detected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import quote, quote_plus

SHOWN: Final = "***"
_LEAST_LINE: Final = 8  # characters of a line that is a secret by itself
_LEAST_BEGINNING: Final = 4  # characters before the place where a text was cut off


class Redactor:
    """A filter that replaces `values` in texts."""

    def __init__(self, values: Iterable[str]) -> None:
        forms = {form for value in values for form in _forms(value) if form}
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        found = [re.escape(form) for form in longest_first]
        found += [f"{_beginning(form)}(?=…|$)" for form in longest_first if len(form) > _LEAST_BEGINNING]
        self._pattern = re.compile("|".join(found)) if found else None

    def redact_text(self, said: str) -> str:
        """Return `said` without the values.

        The beginning of a value is removed as well where the text ends or was cut.
        """
        return said if self._pattern is None else self._pattern.sub(SHOWN, said)

    def redact(self, said: Any) -> Any:
        """Redact all texts in a message."""
        if isinstance(said, str):
            return self.redact_text(said)
        if isinstance(said, list):
            return [self.redact(part) for part in said]
        return said


def _forms(value: str) -> Iterator[str]:
    lines = [line.strip() for line in value.splitlines()]
    yield from (value, value.strip(), " ".join(value.split()))
    yield from (line for line in lines if len(line) >= _LEAST_LINE)
    for plain in (value, value.strip()):
        yield from (repr(plain)[1:-1], quote(plain, safe=""), quote(plain), quote_plus(plain))


def _beginning(form: str) -> str:
    """Return a pattern of the longest beginning of `form`: abcdef as abcd(?:e(?:f)?)?."""
    rest = ""
    for letter in reversed(form[_LEAST_BEGINNING:]):
        rest = f"(?:{re.escape(letter)}{rest})?"
    return re.escape(form[:_LEAST_BEGINNING]) + rest
