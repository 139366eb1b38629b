"""Formatter of Prometheus' text format, as far as this package needs it; pure."""

from __future__ import annotations

from typing import Final

_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})

_NO_NUMBERS: Final = {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}


def head(name: str, help_text: str, kind: str = "gauge") -> str:
    """Return the HELP and TYPE lines of a metric."""
    return f"# HELP {name} {help_text}\n# TYPE {name} {kind}\n"


def number(value: float) -> str:
    """Format a sample's value.

    >>> number(1), number(float("nan")), number(float("-inf"))
    ('1.0', 'NaN', '-Inf')
    """
    text = repr(float(value))
    return _NO_NUMBERS.get(text, text)


def escaped(text: str) -> str:
    """Escape a label's value, which goes between quotation marks."""
    return text.translate(_ESCAPES)
