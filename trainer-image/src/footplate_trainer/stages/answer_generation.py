"""Parts of a run of stage generate: sampling of answers, their rewards, and the data set's output."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass, replace
from functools import partial
from typing import Final

import numpy as np
import torch
from tokenizers import Tokenizer

from footplate_contracts.directives import Command
from footplate_contracts.names import Env
from footplate_contracts.reports import GenerationId
from footplate_contracts.runconfig import RunConfig
from footplate_contracts.samples import LoggedSample
from footplate_contracts.stages import STAGES
from footplate_elastic.protocol.agent_client import AgentClient
from footplate_planning.config import total_steps
from footplate_trainer.callbacks.metric_rows import ROLLOUT_TOKENS
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.checkpoint.layout import StepDirectory
from footplate_trainer.checkpoint.store import CheckpointStore
from footplate_trainer.data.layout import GeneratedRecord, ShardManifest
from footplate_trainer.data.loader import StepBatch
from footplate_trainer.data.prompt_dataset import AppendedEndTokens, PromptOrder
from footplate_trainer.data.sources import RunShards, dataset_of
from footplate_trainer.data.tokenizer_json import parse_tokenizer
from footplate_trainer.errors import UserMistake
from footplate_trainer.generation.requests import StopRule
from footplate_trainer.huggingface.load import WeightsOrigin
from footplate_trainer.huggingface.model_end_tokens import ModelEndTokens, find_end_tokens
from footplate_trainer.huggingface.saved_processors import SavedProcessors
from footplate_trainer.loop.callbacks import Callbacks, StepColumns, TrainedStep
from footplate_trainer.loop.inputs import StepInputs
from footplate_trainer.loop.limits import RunLimits
from footplate_trainer.loop.stepper import StepFlags, StepResult
from footplate_trainer.metrics.stopwatch import Stopwatch
from footplate_trainer.parallel import device
from footplate_trainer.parallel.checksum import weights_checksum
from footplate_trainer.parallel.object_collectives import all_gather, compute_on_rank_0
from footplate_trainer.parallel.parallel_model import ParallelModel
from footplate_trainer.parallel.world import DistributedContext
from footplate_trainer.rewards.reward_samples import SampleKey
from footplate_trainer.rollout.advantages import Advantages, compute_advantages, parse_outcomes
from footplate_trainer.rollout.answer_dataset import RowBatcher
from footplate_trainer.rollout.answer_sampler import EngineSampler
from footplate_trainer.rollout.batches import with_normalized_rewards
from footplate_trainer.rollout.collector import RolloutCollector
from footplate_trainer.rollout.groups import GroupPlan, most_rollouts, split_into_rollouts
from footplate_trainer.rollout.journal import Journal
from footplate_trainer.rollout.journal_files import FOLDER
from footplate_trainer.rollout.journal_keys import (
    DRAWN_BY,
    JournalKey,
    JournalKeyBuilder,
    reward_function_digests,
    sampling_digest,
)
from footplate_trainer.rollout.journal_records import CollectedRollout
from footplate_trainer.rollout.output import AnswerOutput
from footplate_trainer.rollout.reward_model import MODEL, RewardModel
from footplate_trainer.rollout.row_samples import count_generated_tokens, select_shown_samples
from footplate_trainer.rollout.settings import RolloutSettings
from footplate_trainer.rollout.unrewarded import UnrewardedAnswers
from footplate_trainer.stages.critic import LoadedRewardModel, check_turn_ends, load_reward_model
from footplate_trainer.stages.inputs import open_shards
from footplate_trainer.stages.processor_lookup import find_saved_processors
from footplate_trainer.stages.rollouts import log_prompts, open_rewards, row_shape

_log = logging.getLogger(__name__)
_OF_LEARNING: Final = "groups/"  # numbers that only say what a group teaches


@dataclass
class AnswerGeneration:
    """The consecutive rollouts of a run, and the output of their answers."""

    settings: RolloutSettings
    prompts: PromptOrder
    collector: RolloutCollector
    journal: Journal
    output: AnswerOutput
    limits: RunLimits
    world: DistributedContext
    stopwatch: Stopwatch
    store: CheckpointStore

    @property
    def rollouts(self) -> Sequence[range]:
        """Ranges of prompt indices, one for each rollout."""
        return split_into_rollouts(len(self.prompts.dataset), self.settings.groups.prompts, self.limits.steps)

    def run(self, callbacks: Callbacks) -> bool:
        """Run all rollouts, up to a suspension; return whether all are finished. Collective."""
        number = 0
        self.stopwatch.read_and_reset()  # what came before belongs to no step
        while number < self.limits.steps:
            places = self.rollouts[number]
            number += 1
            callbacks.before_data(number)
            plan, key = GroupPlan(len(places)), self.output.key
            gathered = self.collector.collect(number - 1, places.start, key, plan)
            if gathered is None:
                return False
            flags = self._flags(callbacks.before_compute(number))
            callbacks.after_step(self._step(number, gathered, flags))
            if number == self.limits.steps:
                callbacks.after_last_step()
            elif flags.suspend:
                return False
        return True

    def _flags(self, mine: StepFlags) -> StepFlags:
        told = StepFlags()
        for theirs in all_gather(mine, self.world.everybody):
            told |= theirs
        return told

    def _step(self, number: int, gathered: CollectedRollout, flags: StepFlags) -> TrainedStep:
        """Build a rollout's row, whose loss is the model's mean negative log-likelihood of its own answers.

        That is an estimate of its entropy.
        """
        gathered, _ = with_normalized_rewards(gathered, self.settings.group, self.output.normaliser, None)
        keys = [key for group in gathered.keys(self.settings.group) for key in group]
        found = self._judged(gathered)
        drawn = [gathered.kept.samples[key] for key in keys]
        tokens = sum(len(answer.tokens) for answer in drawn)
        surprise = -math.fsum(float(answer.full.sum(dtype=np.float64)) for answer in drawn) / tokens
        numbers = [self.prompts.prompt_id(key.prompt) * self.settings.group + key.sibling for key in keys]
        result = StepResult(number, surprise, 0.0, 0.0, tokens, flags)
        batch = StepBatch([], np.array(numbers, dtype=np.int64), {})
        seconds, parts = self.stopwatch.read_and_reset()
        step = TrainedStep(result, batch, seconds, parts, StepColumns(self._values(found)))
        if (told := count_generated_tokens(gathered)) is not None:
            step.columns[ROLLOUT_TOKENS] = told
        if self.world.rank == 0:
            step.samples.extend(self._shown(number, keys, gathered, found))
        return step

    def _judged(self, gathered: CollectedRollout) -> Advantages:
        """Compute metrics of the answers; raise TooManyUnrewarded if too many have no reward. Collective."""
        groups = gathered.keys(self.settings.group)
        keys = [key for group in groups for key in group]
        unrewarded = UnrewardedAnswers.of(gathered, gathered.sums, self.settings.group)
        unrewarded.check(self.settings.max_missing_reward_ratio)
        if self.world.rank == 0 and (warning := unrewarded.warning()):
            _log.warning("%s", warning)
        self.collector.record_unsettled(gathered)
        found = compute_advantages(
            self.settings,
            [[gathered.kept.samples[key] for key in group] for group in groups],
            [[gathered.sums[key] for key in group] for group in groups],
            [parse_outcomes(gathered.kept.rewards.get(key, {})) for key in keys],
            gathered.asked,
        )
        return replace(found, values={**found.values, **unrewarded.values})

    def _values(self, found: Advantages) -> dict[str, float]:
        unsaid = (_OF_LEARNING,) if self.output.weights else (_OF_LEARNING, "reward/")
        return {name: value for name, value in found.values.items() if not name.startswith(unsaid)}

    def _shown(
        self, number: int, keys: list[SampleKey], gathered: CollectedRollout, found: Advantages
    ) -> list[LoggedSample]:
        nobodys = replace(found, advantages=torch.full_like(found.advantages, math.nan))
        return select_shown_samples(
            number, keys, gathered, nobodys, self.collector.build_reward_input, self.prompts.prompt_id
        )

    def write(self, alive: Callable[[int], None]) -> ShardManifest:
        """Write the data set, on one rank; then delete the journals, on which nothing depends any more.

        `alive` receives the progress.
        """
        manifest = self.output.write(self.rollouts, alive)
        delete_journals(self.store)
        return manifest


def delete_journals(store: CheckpointStore) -> None:
    """Delete all rollouts' journals, also those beyond a later length of the run; nothing depends on it."""
    store.folder.remove(FOLDER)


def open_answer_generation(
    config: RunConfig,
    model: ParallelModel,
    loaded: WeightsOrigin | None,
    store: CheckpointStore,
    limits: RunLimits,
    world: DistributedContext,
    reporter: Reporter,
    agent: AgentClient,
    stack: ExitStack,
) -> AnswerGeneration:
    """Build all that samples, rewards and writes answers; `stack` closes it. Collective."""
    shards = open_shards(config, world, verify=True)
    settings = RolloutSettings.for_generation(config).with_id_limit(shards.vocabulary_size)
    prompts = _prompts(config, shards, settings, limits)
    log_prompts(prompts, settings, world)
    tokenizer = parse_tokenizer(shards.tokenizer)
    processors = find_saved_processors(config, store, shards, world)
    ends = _ends(shards, processors, tokenizer, world)
    closing = AppendedEndTokens(ends.of_turn, shards.sources[0].shards.special.end)
    text_of = partial(_text, tokenizer)
    rollout = config.rollout
    assert rollout is not None and rollout.output is not None
    if (reward_model := load_reward_model(config, model, {}, shards, world)) is not None:
        compute_on_rank_0(partial(check_turn_ends, shards, processors, tokenizer), world.background)
        # It reads an answer that a text stopped as it is written: with the end of its turn.
        reward_model = replace(reward_model, closing=closing if rollout.stop else None)
    record = _record(config, shards, model, loaded, reward_model, world)
    journal = Journal(store.folder, GenerationId.parse(os.environ.get(Env.GENERATION, "0.0")), world.rank)
    stopwatch = Stopwatch(time.perf_counter, device.event_maker(world.device))
    rewards = open_rewards(config, prompts, world, stack)
    collector = RolloutCollector(
        settings,
        prompts,
        EngineSampler(config, settings, model, world, StopRule(ends.ids, tuple(rollout.stop), text_of)),
        rewards,
        journal,
        store.folder,
        world,
        reporter,
        stopwatch,
        text_of=text_of,
        stopping=lambda: agent.command() is Command.CHECKPOINT_AND_EXIT,
        model=_rewarding(reward_model, config, model, shards, prompts, journal, world, reporter),
    )
    output = AnswerOutput(
        rollout.output,
        settings,
        prompts,
        shards,
        store.folder,
        _key(config, shards, ends, reward_model, record.weights),
        {**rewards.weights, **({} if reward_model is None else {MODEL: reward_model.weight})},
        config.model.context_length,
        record,
        text_of,
        closing,
        None if reward_model is None else reward_model.normaliser,
    )
    return AnswerGeneration(settings, prompts, collector, journal, output, limits, world, stopwatch, store)


def _ends(
    shards: RunShards, processors: SavedProcessors, tokenizer: Tokenizer, world: DistributedContext
) -> ModelEndTokens:
    """Return the tokens that end an answer, found on rank 0, on every rank: see `find_end_tokens`.

    Collective.
    """
    find = partial(find_end_tokens, processors, tokenizer, shards.vocabulary_size, shards.template)
    return compute_on_rank_0(find, world.background)


def _key(
    config: RunConfig,
    shards: RunShards,
    ends: ModelEndTokens,
    reward_model: LoadedRewardModel | None,
    weights: str,
) -> JournalKey:
    """Return the key of all the run's journals; only `weights` sample their answers."""
    closing = (
        None if reward_model is None or reward_model.closing is None else list(astuple(reward_model.closing))
    )
    behind = [] if reward_model is None else [*shards.turn_ends, closing]
    said = {**reward_function_digests(config), **({} if reward_model is None else reward_model.digests)}
    drawn = sampling_digest(config, shards.digest, shards.vocabulary_size, ends.ids, behind)
    return JournalKeyBuilder(drawn, said).build({DRAWN_BY: weights})


def _text(tokenizer: Tokenizer, tokens: Sequence[int]) -> str:
    text: str = tokenizer.decode(list(tokens), skip_special_tokens=False)
    return text


def _rewarding(
    reward_model: LoadedRewardModel | None,
    config: RunConfig,
    model: ParallelModel,
    shards: RunShards,
    prompts: PromptOrder,
    journal: Journal,
    world: DistributedContext,
    reporter: Reporter,
) -> RewardModel | None:
    """Build the reward model, which reads a global batch at a time: an interruption costs one batch.

    The batch is smaller if a rollout has no more answers: fillers cost as much as answers. None without a
    model.
    """
    if reward_model is None:
        return None
    settings = RolloutSettings.for_generation(config)
    topology, batch = model.grid.topology, config.training.global_batch_size
    if topology.pipeline == 1:  # else a schedule may want all micro-batches that there are
        dealt = config.training.micro_batch_size * topology.data
        batch = min(batch, -(-settings.samples // dealt) * dealt)
    shape = row_shape(config, model.grid.topology, shards)
    rows = RowBatcher(replace(settings, batch=batch), model.grid, shape, config.data.seed)
    inputs = StepInputs(model.grid, world.device, config.training.seed)
    return reward_model.build_reward_model(rows, prompts, inputs, journal, world, reporter)


def _prompts(
    config: RunConfig, shards: RunShards, settings: RolloutSettings, limits: RunLimits
) -> PromptOrder:
    """Return the prompts of `shards`, in the order of answering; limit `limits` to the last of them.

    Raises UserMistake if the run was created with more rollouts; an increase after that has no effect.
    """
    loss, context = config.training.loss.name, config.model.context_length
    dataset = dataset_of(shards, config.data, loss, context, STAGES[config.stage])
    groups = settings.groups.prompts
    try:
        split_into_rollouts(len(dataset), groups, total_steps(config))
    except ValueError as error:
        raise UserMistake(str(error)) from error
    limits.set_maximum(most_rollouts(len(dataset), groups))
    return PromptOrder(dataset, config.data.seed)


def _record(
    config: RunConfig,
    shards: RunShards,
    model: ParallelModel,
    loaded: WeightsOrigin | None,
    reward_model: LoadedRewardModel | None,
    world: DistributedContext,
) -> GeneratedRecord:
    """Record where answers come from: the `loaded` weights, and the reward model. Collective."""
    directory = None if loaded is None else StepDirectory.parse(loaded.directory)
    return GeneratedRecord(
        run=config.run.name,
        uid=config.run.uid,
        weights=weights_checksum(dict(model.module.named_parameters()), world.background),
        weights_from=None if loaded is None else loaded.name,
        weights_step=None if directory is None else directory.step,
        reward=None if reward_model is None else reward_model.weights,
        reward_configuration=None if reward_model is None else reward_model.configuration,
        reward_from=None if reward_model is None else reward_model.place,
        reward_step=None if reward_model is None else reward_model.step,
        prompts=shards.digest,
        prompts_from=[source.shards.uri for source in shards.sources],
    )
