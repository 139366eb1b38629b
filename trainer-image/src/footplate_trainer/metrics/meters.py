"""Throughput from time stamps, pure: the clock belongs to the loop."""

from __future__ import annotations


class TokenMeter:
    """Valid tokens of the whole world per second, over the time since the step before."""

    def __init__(self, now: float) -> None:
        self._last = now

    def rate(self, tokens: int, now: float) -> tuple[float, float]:
        """(tokens per second, seconds) of the step that ended at `now` and trained on `tokens`."""
        seconds = max(now - self._last, 1e-9)
        self._last = now
        return tokens / seconds, seconds
