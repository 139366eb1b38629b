"""Collection of a rollout, from its first prompt to its last reward, on all ranks together.

Work that an earlier generation finished is read back and counts, whichever rank did it; the rest is sampled
and scored here, and each answer and each reward is in the journal before anything is trained on it. Sampling
and scoring stop between two passes if a stop is requested, and no finished work is lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol

import numpy as np

from footplate_contracts.reports import RankPhase
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.checkpoint.folder import Folder
from footplate_trainer.data.prompt_dataset import Prompt, PromptOrder
from footplate_trainer.errors import TrainerError
from footplate_trainer.generation.requests import (
    EndReason,
    GeneratedAnswer,
    GenerationRequest,
    truncate_at_stop,
)
from footplate_trainer.metrics.stopwatch import StepPart, Stopwatch
from footplate_trainer.parallel import object_collectives
from footplate_trainer.parallel.world import DistributedContext, new_long_timeout_group
from footplate_trainer.rewards.reward_samples import (
    Outcome,
    RewardResult,
    RolloutSample,
    SampleKey,
    Unrewarded,
)
from footplate_trainer.rollout import journal
from footplate_trainer.rollout.advantages import complete_reward_sums, has_learning_signal, parse_outcomes
from footplate_trainer.rollout.answer_sampler import AnswerSampler, GenerateFunction
from footplate_trainer.rollout.groups import GroupPlan, find_next_prompts, select_prompts
from footplate_trainer.rollout.journal import Journal, flush_journals
from footplate_trainer.rollout.journal_keys import JournalKey
from footplate_trainer.rollout.journal_records import (
    CollectedRollout,
    Record,
    RewardsRecord,
    RolloutState,
    SampleRecord,
)
from footplate_trainer.rollout.reward_model import MODEL, RewardModel
from footplate_trainer.rollout.settings import RolloutSettings

_ROUND: Final = 5.0  # seconds between two meetings of ranks, while rewards are awaited
_LOOK: Final = 0.2  # seconds between two looks at whether to stop, while rewards are awaited


class PendingOutcomes(Protocol):
    """Pending outcomes of rewards."""

    @property
    def is_done(self) -> bool:
        """True if `poll` has returned all."""

    def poll(self, seconds: float) -> list[RewardResult]:
        """Return new outcomes; wait up to `seconds` for the first."""


class RewardBackend(Protocol):
    """A source of rewards for answers; on each rank."""

    weights: Mapping[str, float]  # of each reward in the sum, by name

    def submit(
        self, samples: Sequence[RolloutSample], known: Mapping[SampleKey, Mapping[str, Outcome]]
    ) -> PendingOutcomes:
        """Request rewards of `samples` that are not in `known`, by name; return at once."""


class RolloutCollector:
    """A collector that samples and scores the missing answers of a rollout."""

    def __init__(
        self,
        settings: RolloutSettings,
        prompts: PromptOrder,
        sampler: AnswerSampler,
        rewards: RewardBackend,
        journal: Journal,
        folder: Folder,
        world: DistributedContext,
        reporter: Reporter,
        stopwatch: Stopwatch,
        *,
        text_of: Callable[[Sequence[int]], str],
        stopping: Callable[[], bool],
        model: RewardModel | None = None,
    ) -> None:
        """Store what a rollout needs, and create a process group for long waits. Collective.

        `model` adds a reward to those of `rewards`; rewards receive `text_of` tokens; `stopping` is polled
        often.
        """
        self._settings, self._prompts = settings, prompts
        self._sampler, self._rewards = sampler, rewards
        self._journal, self._folder = journal, folder
        self._world, self._reporter, self._stopwatch = world, reporter, stopwatch
        self._long_waits = new_long_timeout_group()
        self._text_of, self._stopping = text_of, stopping
        self._model = model
        self._stopped = False  # somebody has asked this rank to
        self._failed: TrainerError | None = None  # this rank, while it drew
        self._weights = {**rewards.weights, **({} if model is None else {MODEL: model.weight})}
        self._done = 0  # tokens, or samples, of this phase

    def collect(
        self, step: int, first: int, key: JournalKey, plan: GroupPlan | None = None
    ) -> CollectedRollout | None:
        """Collect the rollout that begins after `step` with the prompt at index `first`; None if stopped.

        `key` identifies the rollout in the journal; `plan` is that of a smaller rollout. Finished work is
        durable either way. Collective.
        """
        plan = plan or self._settings.groups
        flush_journals(self._journal, self._world)
        self._journal.start_rollout(step, key)
        kept = self._read(step, key)
        before = len(kept.samples)
        while True:
            sums = complete_reward_sums(kept, self._weights)
            known = self._teaching(step, kept, sums)
            wanted = find_next_prompts(plan, first, known)
            siblings = range(self._settings.group)
            keys = [SampleKey(step, place, sibling) for place in wanted.places for sibling in siblings]
            if not keys:
                break
            if not self._draw(kept, keys) or not self._score(kept, keys):
                return None
        places, drawn = select_prompts(plan, first, known), len(kept.samples) - before
        return CollectedRollout(
            step, first, wanted.places.start - first, places, drawn, kept, sums, self._weights
        )

    def record_unsettled(self, gathered: CollectedRollout) -> None:
        """Write unsettled rewards to the journal as settled, since all steps of this rollout depend on them.

        Until then they are not stored: if too many rewards are missing, the next start requests them again.
        Collective.
        """
        unsettled = gathered.kept.unsettled
        if unsettled:
            if self._world.rank == 0:
                self._journal.add([replace(record, settled=True) for record in unsettled])
            flush_journals(self._journal, self._world)
            unsettled.clear()

    def _draw(self, kept: RolloutState, keys: Sequence[SampleKey]) -> bool:
        """Sample missing answers of `keys`; return False if stopped first. Collective."""
        missing = [key for key in keys if key not in kept.samples]
        if not missing:
            return True
        with self._stopwatch.time(StepPart.ROLLOUT):
            self._reporter.report_phase(RankPhase.ROLLOUT, progress=0)
            with self._sampler.open_generator(missing[0].step) as draw:
                stopped = self._exchange(RankPhase.ROLLOUT, kept, self._drawn(draw, missing))
        return self._is_whole([key for key in missing if key not in kept.samples], stopped, "drawn")

    def _score(self, kept: RolloutState, keys: Sequence[SampleKey]) -> bool:
        """Reward answers of `keys` that have no rewards yet; return False if stopped first. Collective."""
        with self._stopwatch.time(StepPart.SCORING):
            weights = self._rewards.weights
            missing = [key for key in keys if not kept.rewards.get(key, {}).keys() >= weights.keys()]
            stopped = self._exchange(RankPhase.SCORING, kept, self._scored(kept, missing))
            silent = [key for key in missing if not kept.rewards.get(key, {}).keys() >= weights.keys()]
            whole = self._is_whole(silent, stopped, "rewarded")
            return whole and (self._model is None or self._model.complete(kept, keys, self._stops))

    def _stops(self) -> bool:
        """Return whether a stop of this rank is, or was, requested."""
        self._stopped = self._stopped or self._stopping()
        return self._stopped

    @staticmethod
    def _is_whole(missing: Sequence[SampleKey], stopped: bool, what: str) -> bool:
        """Return whether nothing is missing; raise TrainerError, on every rank, if it is without a stop."""
        if missing and not stopped:
            some = f"{missing[0]} and {len(missing) - 1} more" if len(missing) > 1 else f"{missing[0]}"
            raise TrainerError(
                f"{some} should have been {what}, and no stop was requested; the journal has all others, and "
                "the next start continues from it"
            )
        return not missing

    def _read(self, step: int, key: JournalKey) -> RolloutState:
        """Read earlier generations' finished work on rank 0, and return it on every rank. Collective."""

        def read() -> RolloutState:
            return journal.read_rollout(self._folder, step, key)

        return object_collectives.compute_on_rank_0(read, self._world.everybody)

    def _teaching(self, step: int, kept: RolloutState, sums: Mapping[SampleKey, Outcome]) -> dict[int, bool]:
        """Return, by prompt index, whether each whole group has a learning signal."""
        groups = {}
        for place in {key.prompt for key in kept.samples}:
            keys = [SampleKey(step, place, sibling) for sibling in range(self._settings.group)]
            if all(key in sums for key in keys):
                groups[place] = has_learning_signal([sums[key] for key in keys])
        return groups

    def _exchange(self, phase: RankPhase, kept: RolloutState, work: Iterator[Record]) -> bool:
        """Run each rank's `work` until stopped, and share the records of all ranks. Collective.

        Returns whether a stop of any rank was requested.
        """
        self._done, self._stopped, finished = 0, False, []
        self._reporter.report_phase(phase, progress=0)
        for record in work:
            finished.append(record)
            if not isinstance(record, RewardsRecord) or record.settled:
                self._journal.add([record])
            self._reporter.report_phase(phase, progress=self._done)
        self._reporter.report_phase(RankPhase.COLLECTIVE)
        object_collectives.barrier(self._long_waits)  # another one's answers may take hours yet
        flush_journals(self._journal, self._world, self._failed)
        told = object_collectives.all_gather((finished, self._stopped), self._world.everybody)
        for records, _ in told:
            kept.add(records)
        return any(stopped for _, stopped in told)

    def _drawn(self, draw: GenerateFunction, keys: Sequence[SampleKey]) -> Iterator[SampleRecord]:
        """Yield the answers of this rank's share of `keys`."""

        def between(tokens: int) -> bool:
            self._done = tokens
            self._reporter.report_phase(RankPhase.ROLLOUT, progress=tokens)
            return self._stops()

        sampler, step = self._sampler, keys[0].step
        share = share_of_keys(keys, sampler.replica_count, sampler.replica_index)
        prompts = {key.prompt: self._prompts.at(key.prompt) for key in share}
        asked = {place: (prompt.tokens.tolist(), self._most(prompt)) for place, prompt in prompts.items()}
        requests = [GenerationRequest(key.prompt, key.sibling, *asked[key.prompt]) for key in share]
        try:
            for answer in draw(requests, between):
                if sampler.is_leader:
                    yield _record(step, answer)
        except TrainerError as error:
            self._failed = error  # one copy's own, which the others do not know of

    def _most(self, prompt: Prompt) -> int:
        """Return the most tokens that an answer may have."""
        most = self._settings.max_tokens
        return most if self._model is None else min(most, self._model.max_answer_tokens(prompt))

    def _scored(self, kept: RolloutState, keys: Sequence[SampleKey]) -> Iterator[RewardsRecord]:
        """Yield rewards of this rank's share of `keys`, a record for each outcome. Collective.

        A call may take longer than ranks wait in a collective: so they synchronise every few seconds until
        all are done, or one is to stop, and none waits for long.
        """
        share = share_of_keys(keys, self._world.size, self._world.rank)
        known = {key: parse_outcomes(kept.rewards[key]) for key in share if key in kept.rewards}
        asked = self._rewards.submit([self.build_reward_input(kept.samples[key]) for key in share], known)
        stopped = False
        while True:
            meeting = time.monotonic() + _ROUND
            while not asked.is_done and not stopped and time.monotonic() < meeting:
                stopped = self._stops()
                # What has been answered by then is kept: nobody is asked for it again.
                yield from self._told(kept, asked.poll(0.0 if stopped else _LOOK))
            ranks = object_collectives.all_gather((asked.is_done, stopped), self._world.everybody)
            if all(done for done, _ in ranks) or any(stops for _, stops in ranks):
                yield from self._told(kept, asked.poll(0.0))  # what came while others were awaited
                return

    def _told(self, kept: RolloutState, found: Sequence[RewardResult]) -> Iterator[RewardsRecord]:
        """Convert outcomes into journal records."""
        for told in found:
            self._done += 1
            mark, outcome = kept.samples[told.key].mark, told.outcome
            if isinstance(outcome, Unrewarded):
                yield RewardsRecord(told.key, mark, {told.reward: outcome.reason}, outcome.settled)
            else:
                yield RewardsRecord(told.key, mark, {told.reward: outcome})

    def build_reward_input(self, sample: SampleRecord) -> RolloutSample:
        """Build the input of reward functions: the text excludes its end, be that a token or a stop text."""
        prompt = self._prompts.at(sample.key.prompt)
        tokens = sample.tokens.tolist()
        text = self._text_of(tokens[:-1] if sample.reason is EndReason.END else tokens)
        if sample.reason is EndReason.STOP:
            text = truncate_at_stop(text, self._settings.stop)
        return RolloutSample(
            sample.key,
            self._text_of(prompt.tokens.tolist()),
            prompt.tokens.tolist(),
            text,
            tokens,
            sample.reason,
            prompt.columns,
        )


def share_of_keys(keys: Sequence[SampleKey], shares: int, share: int) -> Sequence[SampleKey]:
    """Return one share of `keys`: consecutive keys, as siblings have their prompt in common."""
    return keys[len(keys) * share // shares : len(keys) * (share + 1) // shares]


def _record(step: int, answer: GeneratedAnswer) -> SampleRecord:
    return SampleRecord(
        SampleKey(step, answer.request.prompt, answer.request.sibling),
        np.array(answer.tokens, dtype=np.int32),
        np.array(answer.sampled, dtype=np.float32),
        np.array(answer.full, dtype=np.float32),
        answer.reason,
    )
