"""Calls the reward functions for the answers of a rollout, from its loop.

    with RewardFunctions(config.reward.functions, columns=…, max_tokens=…) as functions:
        asked = functions.ask(samples, known)          # returns at once
        while not asked.done:
            for rewarded in asked.poll(seconds):        # results since the last call
                journal.keep(rewarded)

A thread for each function sends requests to the function's process; so a slow function delays
none of the others, and the rank may go on generating. The caller passes earlier results as
`known`, and they are not requested again.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Collection, Mapping, MutableMapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Final, Self

from footplate_contracts.v1alpha1.reward import RewardFunction, secret_names
from footplate_trainer.background import complete
from footplate_trainer.rewards import number_match
from footplate_trainer.rewards.call_schedule import Batch, CallFailureKind, CallSchedule
from footplate_trainer.rewards.checks import check_functions, environment_of, pop_secrets, worker_setup
from footplate_trainer.rewards.process import START_SECONDS, CallFailed, FunctionProcess
from footplate_trainer.rewards.redaction import Redactor
from footplate_trainer.rewards.reward_samples import (
    Outcome,
    RewardResult,
    RolloutSample,
    SampleKey,
    Unrewarded,
)
from footplate_trainer.rewards.scorers import to_json

Known = Mapping[SampleKey, Mapping[str, Outcome]]
"""What rewards, by name, have said of samples before."""

AT_ONCE: Final = 128
"""Answers in one call of somebody's own function: what it has answered is kept before the next."""

_NOTHING: Final[Known] = {}


class PendingRewards:
    """Pending results: of each reward for each requested sample."""

    def __init__(self, expected: int) -> None:
        self._missing = expected
        self._told: queue.SimpleQueue[RewardResult | BaseException] = queue.SimpleQueue()

    @property
    def is_done(self) -> bool:
        """True if `poll` has returned all results."""
        return not self._missing

    def poll(self, seconds: float) -> list[RewardResult]:
        """Return the new results; waits up to `seconds` for the first. Raises the error of a thread."""
        found: list[RewardResult] = []
        try:
            while self._missing:
                told = self._told.get_nowait() if found else self._told.get(timeout=seconds)
                if isinstance(told, BaseException):
                    raise told
                self._missing -= 1
                found.append(told)
        except queue.Empty:
            pass
        return found

    def put(self, told: RewardResult | BaseException) -> None:
        """Add a result or an error; may be called from any thread."""
        self._told.put(told)


class RewardFunctions:
    """The functions of `spec.reward.functions` on one rank; a context manager that ends their processes."""

    def __init__(
        self,
        functions: Sequence[RewardFunction],
        *,
        columns: Collection[str],
        max_tokens: int,
        environment: MutableMapping[str, str] = os.environ,
        start_seconds: float = START_SECONDS,
    ) -> None:
        """Start all processes and wait until they are ready; remove their secrets from `environment`.

        `columns` are those of the prompts, `max_tokens` is the rollout's. Raises UserMistake, by the name of
        the field, for a function that cannot work: before a rank trains.
        """
        check_functions(functions, columns, max_tokens)
        secrets = pop_secrets(functions, environment)
        self.weights: Mapping[str, float] = {function.name: function.weight for function in functions}
        self._max_tokens = max_tokens
        self._inline = [function for function in functions if worker_setup(function, 0, columns) is None]
        self._askers = [
            _Asker(
                function,
                FunctionProcess(
                    function.name,
                    set_up,
                    environment_of(function, environment, secrets),
                    Redactor(secrets[name] for name in secret_names([function])),
                    start_seconds,
                ),
            )
            for index, function in enumerate(functions)
            if (set_up := worker_setup(function, index, columns)) is not None
        ]
        with ExitStack() as on_error:
            on_error.callback(self.close)
            for started in [asker.start() for asker in self._askers]:
                started.result()
            on_error.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def submit(self, samples: Sequence[RolloutSample], known: Known = _NOTHING) -> PendingRewards:
        """Request each reward of those of `samples` that are not `known` for it; returns at once."""
        wanted = {
            name: [sample for sample in samples if name not in known.get(sample.key, {})]
            for name in self.weights
        }
        asked = PendingRewards(sum(map(len, wanted.values())))
        for asker in self._askers:
            if batch := wanted[asker.function.name]:
                asker.submit(asked, batch)
        for function in self._inline:
            for sample in wanted[function.name]:
                outcome = _computed(function, sample, self._max_tokens)
                asked.put(RewardResult(sample.key, function.name, outcome))
        return asked

    def close(self) -> None:
        """End the processes; pending results are lost."""
        for asker in self._askers:
            asker.close()


class _Asker:
    """A thread that sends requests to one function, in the order in which it gets them."""

    def __init__(self, function: RewardFunction, process: FunctionProcess) -> None:
        self.function = function
        self._process = process
        self._jobs: queue.SimpleQueue[tuple[PendingRewards, Batch] | None] = queue.SimpleQueue()
        self._closing = False
        self._started: Future[None] = Future()
        # A daemon: a rank that fails ends without waiting for anybody's function.
        self._thread = threading.Thread(target=self._run, name=f"reward-{function.name}", daemon=True)

    def start(self) -> Future[None]:
        self._thread.start()
        return self._started

    def submit(self, asked: PendingRewards, samples: Batch) -> None:
        self._jobs.put((asked, samples))

    def close(self) -> None:
        self._closing = True
        self._jobs.put(None)
        while self._thread.is_alive():
            self._process.kill()  # again, where it was just being started
            self._thread.join(0.1)

    def _run(self) -> None:
        try:
            complete(self._started, self._process.start)
            if self._started.exception() is not None:
                return
            while (job := self._jobs.get()) is not None and not self._closing:
                done: Future[None] = Future()
                complete(done, partial(self._work, *job))
                if (error := done.exception()) is not None:
                    job[0].put(error)
        finally:
            self._process.end()

    def _work(self, asked: PendingRewards, samples: Batch) -> None:
        # A user's function gets many samples at once, as it may request others' opinions at the same time;
        # a built-in reward gets one, so that an answer that takes for ever delays no other.
        calls = CallSchedule(self.function.name, samples, AT_ONCE if self.function.function else 1)
        while (batch := calls.next()) and not self._closing:
            for sample, outcome in self._outcomes(calls, batch):
                asked.put(RewardResult(sample.key, self.function.name, outcome))

    def _outcomes(self, calls: CallSchedule, batch: Batch) -> Sequence[tuple[RolloutSample, Outcome]]:
        request = [to_json(sample) for sample in batch]
        try:
            numbers = self._process.call(request, self.function.timeout_seconds)
        except CallFailed as failed:
            return calls.record_failure(failed.failure, str(failed))
        if not isinstance(numbers, list) or len(numbers) != len(batch):
            return calls.record_failure(
                CallFailureKind.RAISED, f"its process did not return a list of {len(batch)} numbers"
            )
        return list(zip(batch, calls.record_answer(numbers), strict=True))


def _computed(function: RewardFunction, sample: RolloutSample, max_tokens: int) -> Outcome:
    """Compute a reward that takes no time and runs no user code."""
    if function.length is not None:
        return length_reward(len(sample.tokens), function.length.tokens, max_tokens)
    assert function.number is not None, "worker_setup supports no other"
    number = number_match.reward(
        sample.answer, sample.columns.get(function.column), function.number.delimiter
    )
    if isinstance(number, str):
        return Unrewarded(f"reward {function.name}: {sample.key}: {number}")
    return number


def length_reward(tokens: int, wanted: int | None, most: int) -> float:
    """Return the share of `most` tokens; with `wanted`, below `most`, a penalty for a longer answer.

    The penalty is 0 up to `wanted`, then falls to -1 at `most`. It is DAPO's (arXiv:2503.14476, section 3.4),
    whose cache is `most` - `wanted`.
    """
    if wanted is None:
        return tokens / most
    return min(0.0, max(-1.0, (wanted - tokens) / (most - wanted)))
