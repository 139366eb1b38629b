"""Which samples a reward function is asked about next, after what it did with those before.

A function that raises says nothing of any sample of its batch, though one alone may be to
blame. So a batch that fails is asked about again in halves, until that sample is alone; and once
more where its process ended, as others may have ended that. A function that always fails, or that
stands still, is not asked for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

from footplate_trainer.rewards.answers import read_number
from footplate_trainer.rewards.samples import Outcome, RolloutSample, Unrewarded

FAILURES_IN_A_ROW: Final = 20  # more than the halves of any rollout on the way to the first sample
TIMEOUTS_IN_A_ROW: Final = 3  # beside the halves of a call


class Failure(Enum):
    """How a call ended without an answer."""

    RAISED = auto()
    ENDED = auto()  # its process
    TIMEOUT = auto()


Batch = Sequence[RolloutSample]


class Calls:
    """The calls that one reward is asked of `samples`, at most `at_once` in each.

    After each `next` comes either `answered` or `failed`; both say what is known now.
    """

    def __init__(self, reward: str, samples: Batch, at_once: int) -> None:
        self._reward = reward
        self._waiting = deque(samples[i : i + at_once] for i in range(0, len(samples), at_once))
        self._asked: Batch = ()
        self._most_timeouts = TIMEOUTS_IN_A_ROW + max(min(at_once, len(samples)), 1).bit_length() - 1
        self._repeated = False  # the call, about one sample whose process ended
        self._failures = 0
        self._timeouts = 0

    def next(self) -> Batch:
        """The samples of the next call; none: there is nothing more to ask."""
        self._asked = self._waiting.popleft() if self._waiting else ()
        return self._asked

    def answered(self, numbers: Sequence[float | str]) -> list[Outcome]:
        """The outcomes of the samples of the call, of which `numbers` has a number or what is wrong."""
        self._failures = self._timeouts = 0
        self._repeated = False
        # What a process says of numbers is looked at again: its protocol may be in other hands.
        return [
            self._unrewarded(sample, number) if isinstance(number, str) else self._read(sample, number)
            for sample, number in zip(self._asked, numbers, strict=True)
        ]

    def failed(self, failure: Failure, what: str) -> list[tuple[RolloutSample, Outcome]]:
        """The samples that are given up, after a call that did `what`."""
        self._failures += 1
        self._timeouts = self._timeouts + 1 if failure is Failure.TIMEOUT else 0
        if self._failures >= FAILURES_IN_A_ROW or self._timeouts >= self._most_timeouts:
            asked = [(sample, self._unanswered(sample, what)) for sample in self._asked]
            times = self._timeouts or self._failures
            rest = f"it was not asked, after {times} calls in a row without an answer: {what}"
            never = [(sample, self._unanswered(sample, rest)) for batch in self._waiting for sample in batch]
            self._waiting.clear()
            return [*asked, *never]
        repeated, self._repeated = self._repeated, False
        if len(self._asked) > 1:
            middle = len(self._asked) // 2
            self._waiting.extendleft((self._asked[middle:], self._asked[:middle]))
            return []
        if failure is Failure.ENDED and not repeated:
            self._waiting.appendleft(self._asked)
            self._repeated = True
            return []
        return [(sample, self._unanswered(sample, what)) for sample in self._asked]

    def _read(self, sample: RolloutSample, value: float) -> Outcome:
        number = read_number(value)
        return self._unrewarded(sample, number) if isinstance(number, str) else number

    def _unrewarded(self, sample: RolloutSample, what: str) -> Unrewarded:
        return Unrewarded(f"reward {self._reward}: {sample.key}: {what}")

    def _unanswered(self, sample: RolloutSample, what: str) -> Unrewarded:
        return Unrewarded(f"reward {self._reward}: {sample.key}: {what}", settled=False)
