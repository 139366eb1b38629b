"""Retry policy of checkpoints that could not be written. Pure.

Storage that fails mostly recovers within minutes, and training does not need it meanwhile. So a save is
retried in the background until the next one is due, which is worth more: then this one is skipped. After too
long without a durable checkpoint a fault costs more than it should, and the failure ends the generation, as
does a failure that waiting cannot repair in a run that has nothing durable yet. A save that training waits
for, the last one or that of a suspension, is retried as long as its time limit permits.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from footplate_contracts.backoff import backoff_seconds

RETRY_SECONDS: Final = 3600.0  # since the first failure; `checkpoint.retrySeconds` says otherwise
# So long a save is tried again that training waits for: less than `resilience.hang.checkpointSeconds`,
# so that storage is blamed for it and no rank.
WAIT_SECONDS: Final = 1500.0
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
_LONGEST_WAIT: Final = 5.0  # where training waits, perhaps with a deadline


class RetryAction(Enum):
    """The action after a failed attempt."""

    AGAIN = "again"
    LEAVE_OUT = "leave out"  # the next save is due
    FAIL = "fail"


class WaitReason(Enum):
    """The reason why training waits for the checkpoint in flight."""

    NOT = "not"
    FOR_ROOM = "for room"  # to save the next step
    FOR_THE_END = "for the end"  # of the run, or of the ranks


@dataclass
class SaveFailures:
    """The failures since the last durable checkpoint. Times are seconds of one monotonic clock."""

    left_out: int = 0  # saves, one after the other
    _since: float | None = None

    def next_action(
        self, waits: WaitReason, waited: float, now: float, bound: float, hopeless: bool
    ) -> RetryAction:
        """Return the action after one more failed attempt.

        Args:
            waited: seconds for which training waits, 0 where it does not.
            bound: seconds after which the failure ends the generation.
            hopeless: waiting cannot repair it, and nothing is durable yet.
        """
        self._since = now if self._since is None else self._since
        if waits is WaitReason.FOR_THE_END:
            spent = waited >= min(bound, WAIT_SECONDS)
        else:
            spent = now - self._since >= bound
        if hopeless or spent:
            return RetryAction.FAIL
        return RetryAction.LEAVE_OUT if waits is WaitReason.FOR_ROOM else RetryAction.AGAIN

    def count_skipped(self) -> None:
        """Count a skipped save."""
        self.left_out += 1

    def reset(self) -> None:
        """Reset the failures: a checkpoint is durable."""
        self.left_out, self._since = 0, None


def retry_delay(tries: int, waits: WaitReason) -> float:
    """Return the seconds before the next attempt, after so many failed ones in a row."""
    longest = _LONGEST_PAUSE if waits is WaitReason.NOT else _LONGEST_WAIT
    return backoff_seconds(tries, first=_FIRST_PAUSE, longest=longest)
