"""Chooses the samples of each call of a reward function, from the results of the calls before.

A function that raises returns nothing for any sample of its batch, though a single one may be the cause. So a
batch that fails is repeated in halves, until that sample is alone; and once more if the function's process
ended, as another program may have ended it.

An answer, a prompt, or any input may be the cause of failures. So after a sample that failed alone, a sample
of another prompt is tried alone: twenty calls in a row without an answer are then calls about nearly as many
prompts, and the function is not called again. The siblings of that sample are called last, the first of them
alone. Their failures count for their prompt only: once the function has answered for others, they can stop no
other calls.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

from footplate_trainer.rewards.reward_samples import Outcome, RolloutSample, Unrewarded
from footplate_trainer.rewards.reward_values import parse_reward

FAILURES_IN_A_ROW: Final = 20  # more than the halves of any rollout on the way to the first sample
TIMEOUTS_IN_A_ROW: Final = 3  # beside the halves of a call


class CallFailureKind(Enum):
    """The way in which a call failed."""

    RAISED = auto()
    ENDED = auto()  # its process
    TIMEOUT = auto()


Batch = Sequence[RolloutSample]
GivenUp = list[tuple[RolloutSample, Outcome]]


class CallSchedule:
    """The calls of one reward for `samples`, at most `at_once` samples in each.

    After each `next` the caller calls either `record_answer` or `record_failure`; both return the outcomes
    decided by then.
    """

    def __init__(self, reward: str, samples: Batch, at_once: int) -> None:
        self._reward = reward
        self._at_once = at_once
        self._waiting = deque(self._batches(samples))
        self._postponed: dict[int, list[RolloutSample]] = {}  # by prompt, behind one that failed alone
        self._asked: Batch = ()
        self._most_timeouts = TIMEOUTS_IN_A_ROW + max(min(at_once, len(samples)), 1).bit_length() - 1
        self._repeated = False  # the call, about one sample whose process ended
        self._failures = 0
        self._timeouts = 0
        self._alone = set[int]()  # prompts that have failed alone since the last answer
        self._known = set[int]()  # and those before that: what fails of them fails for them
        self._failed_of: Counter[int] = Counter()  # by prompt, since an answer for it
        self._timeouts_of: Counter[int] = Counter()

    def next(self) -> Batch:
        """Return the samples of the next call; none when all calls are done."""
        if not self._waiting:
            self._recall()
        self._asked = self._waiting.popleft() if self._waiting else ()
        if self._alone and len(self._asked) > 1:
            self._waiting.appendleft(self._asked[1:])
            self._asked = self._asked[:1]
        return self._asked

    def record_answer(self, numbers: Sequence[float | str]) -> list[Outcome]:
        """Return the outcomes for the samples of the call; `numbers` has a number or error text for each."""
        self._failures = self._timeouts = 0
        self._repeated = False
        self._known |= self._alone
        self._alone.clear()
        for prompt in {sample.key.prompt for sample in self._asked}:
            self._failed_of.pop(prompt, None)
            self._timeouts_of.pop(prompt, None)
            if prompt in self._postponed:
                self._waiting.extend(self._batches(self._postponed.pop(prompt)))
        # What a process says of numbers is looked at again: its protocol may be in other hands.
        return [
            self._unrewarded(sample, number) if isinstance(number, str) else self._read(sample, number)
            for sample, number in zip(self._asked, numbers, strict=True)
        ]

    def record_failure(self, failure: CallFailureKind, what: str) -> GivenUp:
        """Return the samples that are given up, after a call that failed with the message `what`."""
        if any(sample.key.prompt not in self._known for sample in self._asked):
            self._failures += 1
            self._timeouts = self._timeouts + 1 if failure is CallFailureKind.TIMEOUT else 0
            if self._failures >= FAILURES_IN_A_ROW or self._timeouts >= self._most_timeouts:
                return self._end(what)
        repeated, self._repeated = self._repeated, False
        if len(self._asked) > 1:
            middle = len(self._asked) // 2
            self._waiting.extendleft((self._asked[middle:], self._asked[:middle]))
            return []
        if failure is CallFailureKind.ENDED and not repeated:
            self._waiting.appendleft(self._asked)
            self._repeated = True
            return []
        return self._failed_alone(self._asked[0].key.prompt, failure, what)

    def _batches(self, samples: Batch) -> list[Batch]:
        return [samples[i : i + self._at_once] for i in range(0, len(samples), self._at_once)]

    def _failed_alone(self, prompt: int, failure: CallFailureKind, what: str) -> GivenUp:
        """Give up the sample of the call; and its siblings, if many of them have failed alone."""
        self._alone.add(prompt)
        self._failed_of[prompt] += 1
        self._timeouts_of[prompt] = self._timeouts_of[prompt] + 1 if failure is CallFailureKind.TIMEOUT else 0
        siblings = [*self._take_siblings(prompt), *self._postponed.pop(prompt, ())]
        failures, timeouts = self._failed_of[prompt], self._timeouts_of[prompt]
        given_up = self._given_up(self._asked, what)
        if failures >= FAILURES_IN_A_ROW or timeouts >= TIMEOUTS_IN_A_ROW:
            times = timeouts if timeouts >= TIMEOUTS_IN_A_ROW else failures
            never = f"not called, after {times} failed answers in a row to this prompt: {what}"
            return [*given_up, *self._given_up(siblings, never)]
        if siblings:
            self._postponed[prompt] = siblings
        return given_up

    def _end(self, what: str) -> GivenUp:
        """Give up all remaining samples: the function is not called again."""
        rest = [sample for batch in (*self._waiting, *self._postponed.values()) for sample in batch]
        self._waiting.clear()
        self._postponed.clear()
        times = self._timeouts if self._timeouts >= self._most_timeouts else self._failures
        never = f"not called, after {times} failed calls in a row: {what}"
        return [*self._given_up(self._asked, what), *self._given_up(rest, never)]

    def _take_siblings(self, prompt: int) -> list[RolloutSample]:
        """Remove and return the next samples of `prompt`: siblings are consecutive."""
        siblings = list[RolloutSample]()
        while self._waiting and self._waiting[0][0].key.prompt == prompt:
            batch = self._waiting.popleft()
            count = sum(sample.key.prompt == prompt for sample in batch)
            siblings += batch[:count]
            if batch[count:]:
                self._waiting.appendleft(batch[count:])
        return siblings

    def _recall(self) -> None:
        """Queue the first postponed sample of each prompt, alone; the others follow an answer for it."""
        firsts = [siblings.pop(0) for siblings in self._postponed.values()]
        self._waiting.extend([first] for first in firsts)
        self._postponed = {prompt: siblings for prompt, siblings in self._postponed.items() if siblings}

    def _read(self, sample: RolloutSample, value: float) -> Outcome:
        number = parse_reward(value)
        return self._unrewarded(sample, number) if isinstance(number, str) else number

    def _unrewarded(self, sample: RolloutSample, what: str) -> Unrewarded:
        return Unrewarded(f"reward {self._reward}: {sample.key}: {what}")

    def _given_up(self, samples: Batch, what: str) -> GivenUp:
        """Mark `samples` as unrewarded, not settled: another start may call the function for them again."""
        said = f"reward {self._reward}"
        return [(sample, Unrewarded(f"{said}: {sample.key}: {what}", settled=False)) for sample in samples]
