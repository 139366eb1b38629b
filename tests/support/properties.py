"""Tests of what holds for every example: the same examples each time, however slow the machine is.

Hypothesis fails an example that takes longer than 200 ms, which is a verdict on the machine where one
takes less than 10: a process that the host holds up for a moment is slower.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis
from hypothesis import HealthCheck, settings
from hypothesis.strategies import SearchStrategy

Test = Callable[..., None]
_WHATEVER_THE_CLOCK_SAYS = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True, database=None
)


def given(*strategies: SearchStrategy[Any], examples: int = 100) -> Callable[[Test], Test]:
    """`hypothesis.given` without clock and chance."""
    chosen = settings(_WHATEVER_THE_CLOCK_SAYS, max_examples=examples)

    def decorate(test: Test) -> Test:
        decorated: Test = chosen(hypothesis.given(*strategies)(test))
        return decorated

    return decorate
