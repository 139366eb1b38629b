"""What most waited no longer than."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def percentile(seconds: Sequence[float]) -> float:
    """The 99th percentile; of fewer than a hundred nearly the longest, and never more than that.

    >>> percentile([1.0, 2.0, 3.0]), percentile([1.0]), percentile([])
    (2.98, 1.0, 0.0)
    """
    if len(seconds) < 2:
        return max(seconds, default=0.0)
    return statistics.quantiles(seconds, n=100, method="inclusive")[98]
