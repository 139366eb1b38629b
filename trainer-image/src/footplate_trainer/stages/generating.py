"""The program of stage generate: answers to prompts, which become a data set. It trains nothing.

A step is a rollout. There is no checkpoint, as nobody changes the weights: what a run has done is in its
journals. Each start goes through its rollouts from the first; of one that is finished it reads what was
drawn. Once the data set stands the journals go, and a start that finds it has nothing left to do.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from tokenizers import Tokenizer

from footplate_contracts.directives import Command
from footplate_contracts.names import Env, ExitCode
from footplate_contracts.reports import GenerationId, RankPhase
from footplate_contracts.runconfig import RunConfig
from footplate_contracts.samples import ShownSample
from footplate_elastic.protocol.agent_client import AgentClient
from footplate_planning.config import model_shape, total_steps
from footplate_trainer.callbacks.diagnostics import Diagnostics
from footplate_trainer.callbacks.lease import Lease
from footplate_trainer.callbacks.limits import LimitsFollower
from footplate_trainer.callbacks.metric_rows import ROLLOUT_TOKENS, open_metric_rows
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.callbacks.suspension import Suspension
from footplate_trainer.checkpoint.layout import StepDirectory
from footplate_trainer.checkpoint.store import CheckpointStore
from footplate_trainer.data.answers import answers_digest
from footplate_trainer.data.layout import GeneratedRecord, ShardManifest
from footplate_trainer.data.loader import StepBatch
from footplate_trainer.data.prompt_dataset import PromptOrder
from footplate_trainer.data.sources import RunShards, dataset_of
from footplate_trainer.errors import UserMistake
from footplate_trainer.generation.requests import StopRule
from footplate_trainer.huggingface.ends import found_ends
from footplate_trainer.huggingface.load import Loaded, load_initial
from footplate_trainer.loop.callbacks import Callbacks, StepColumns, TrainedStep
from footplate_trainer.loop.limits import RunLimits
from footplate_trainer.loop.stepper import Flags, StepResult
from footplate_trainer.metrics.stopwatch import Stopwatch
from footplate_trainer.parallel import agree, device
from footplate_trainer.parallel.apply import ParallelModel, build_model
from footplate_trainer.parallel.checksum import weights_checksum
from footplate_trainer.parallel.world import World, use_determinism
from footplate_trainer.rewards.samples import SampleKey, Unrewarded
from footplate_trainer.rewards.sums import UnrewardedShare, reasons
from footplate_trainer.rollout.epoch import most_rollouts, rollouts_of
from footplate_trainer.rollout.gathering import Gatherer
from footplate_trainer.rollout.groups import GroupPlan
from footplate_trainer.rollout.identity import DRAWN_BY, JournalKeys, drawing_key, functions_said
from footplate_trainer.rollout.journal import Journal
from footplate_trainer.rollout.kept import GatheredRollout
from footplate_trainer.rollout.learning import Learnt, learnt, outcomes_of
from footplate_trainer.rollout.output import AnswerOutput, written
from footplate_trainer.rollout.places import FOLDER
from footplate_trainer.rollout.sampling import EngineSampler
from footplate_trainer.rollout.settings import RolloutSettings
from footplate_trainer.rollout.shown import drawn_tokens, shown
from footplate_trainer.rollout.together import durable
from footplate_trainer.stages.companions import find_companions
from footplate_trainer.stages.inputs import open_shards
from footplate_trainer.stages.learning import require_decoder, say
from footplate_trainer.stages.process import Program, run_stage
from footplate_trainer.stages.rollouts import open_rewards
from footplate_trainer.stages.start import open_store

_OF_LEARNING: Final = "groups/"  # numbers that only say what a group teaches


def main(config: RunConfig, agent: AgentClient, metrics: Path | None = None) -> ExitCode:
    """Answer the prompts of `config` as the rank that the environment names; see `run_stage`.

    `metrics` is a file for rows beside those that the run asks for.
    """

    def stage(config: RunConfig) -> Program:
        require_decoder(config)
        return partial(_generate, config, agent, metrics)

    return run_stage(config, agent, stage)


def _generate(
    config: RunConfig, agent: AgentClient, metrics: Path | None, world: World, reporter: Reporter
) -> ExitCode:
    assert config.rollout is not None and config.rollout.output is not None
    use_determinism(config.training.deterministic)
    torch.manual_seed(config.training.seed)
    reporter.enter(RankPhase.LOADING)
    uri, limits = config.rollout.output.uri, RunLimits(config)
    limits.agree(agent.limits(), world, 0)
    store = open_store(config)
    found = agree.from_rank_0(lambda: _ended(store, uri, config.run.uid), world.background)
    if found is not None:
        # The limits stay as they are: ranks that end with an earlier step than is asked for are started anew.
        reporter.start_from(min(found.rollouts or limits.steps, limits.steps), 0, limits)
        _finished(uri, world, reporter)
        say(world, f"nothing left to do: the answers are in {uri} already")
        return ExitCode.SUCCESS
    reporter.start_from(0, 0, limits)
    model, loaded = build_model(config, world), None
    if config.init_from is not None:
        loaded = load_initial(config, model.module, world)
        say(world, f"weights from {loaded.name}")
    model.module.sync_tied()
    with ExitStack() as stack:
        answering = _open(config, model, loaded, store, limits, world, reporter, agent, stack)
        reporter.data = answering.output.shards.digest
        rows = replace(open_metric_rows(config, agent, limits, reporter, world, metrics), draws=True)
        # What a peak is compared with is the work of training.
        rows = replace(rows, utilisation=replace(rows.utilisation, tflops=None))
        callbacks = Callbacks(
            reporter,
            Lease(agent),
            Suspension(agent),
            Diagnostics(config.checkpoint.uri, agent, world, reporter),
            LimitsFollower(limits, agent, world, 0),
            rows,
        )
        answered = answering.run(callbacks)
        durable(answering.journal, world)
        answering.journal.close()
        callbacks.close()
    if not answered:
        reporter.enter(RankPhase.FINISHED)
        say(world, f"suspended at step {reporter.step} of {limits.steps}, as asked; journal in {store.uri}")
        return ExitCode.SUSPENDED
    reporter.enter(RankPhase.CHECKPOINT)
    manifest = agree.from_rank_0(lambda: answering.write(reporter), world.background)
    _finished(uri, world, reporter)
    say(world, f"finished at step {reporter.step}: {manifest.documents} answers in {uri}")
    return ExitCode.SUCCESS


def _finished(uri: str, world: World, reporter: Reporter) -> None:
    """Tell what stands at `uri`: who names this run as its data gets that, and nothing else. Collective."""
    reporter.answers = agree.from_rank_0(lambda: answers_digest(uri), world.background)
    reporter.enter(RankPhase.FINISHED)


@dataclass
class Answering:
    """The rollouts of a run, one after another, and what becomes of their answers."""

    settings: RolloutSettings
    prompts: PromptOrder
    gatherer: Gatherer
    journal: Journal
    output: AnswerOutput
    limits: RunLimits
    world: World
    stopwatch: Stopwatch
    store: CheckpointStore

    @property
    def rollouts(self) -> Sequence[range]:
        """The places of the prompts of each."""
        return rollouts_of(len(self.prompts.dataset), self.settings.groups.prompts, self.limits.steps)

    def run(self, callbacks: Callbacks) -> bool:
        """All rollouts, up to a suspension; whether there are all of them then. Collective."""
        number = 0
        self.stopwatch.take()  # what came before belongs to no step
        while number < self.limits.steps:
            places = self.rollouts[number]
            number += 1
            callbacks.before_data(number)
            plan, key = GroupPlan(len(places)), self.output.key
            gathered = self.gatherer.gather(number - 1, places.start, key, plan)
            if gathered is None:
                return False
            flags = self._flags(callbacks.before_compute(number))
            callbacks.after_step(self._step(number, gathered, flags))
            if number == self.limits.steps:
                callbacks.after_last_step()
            elif flags.suspend:
                return False
        return True

    def _flags(self, mine: Flags) -> Flags:
        told = Flags()
        for theirs in agree.gather(mine, self.world.everybody):
            told |= theirs
        return told

    def _step(self, number: int, gathered: GatheredRollout, flags: Flags) -> TrainedStep:
        """What a row says of a rollout. Its loss is that of the model on its own answers, its entropy."""
        keys = [key for group in gathered.keys(self.settings.group) for key in group]
        found = self._judged(gathered)
        drawn = [gathered.kept.samples[key] for key in keys]
        tokens = sum(len(answer.tokens) for answer in drawn)
        surprise = -math.fsum(float(answer.full.sum(dtype=np.float64)) for answer in drawn) / tokens
        numbers = [self.prompts.number(key.prompt) * self.settings.group + key.sibling for key in keys]
        result = StepResult(number, surprise, 0.0, 0.0, tokens, flags)
        batch = StepBatch([], np.array(numbers, dtype=np.int64), {})
        seconds, parts = self.stopwatch.take()
        step = TrainedStep(result, batch, seconds, parts, StepColumns(self._values(found)))
        if (told := drawn_tokens(gathered)) is not None:
            step.columns[ROLLOUT_TOKENS] = told
        if self.world.rank == 0:
            step.samples.extend(self._shown(number, keys, gathered, found))
        return step

    def _judged(self, gathered: GatheredRollout) -> Learnt:
        """What is known of the answers; TooManyUnrewarded where too many have no reward. Collective."""
        groups = gathered.keys(self.settings.group)
        keys = [key for group in groups for key in group]
        missing = {key: told for key in keys if isinstance(told := gathered.sums[key], Unrewarded)}
        UnrewardedShare(len(keys), len(missing)).check(self.settings.max_unrewarded, reasons(missing))
        self.gatherer.settle(gathered)
        return learnt(
            self.settings,
            [[gathered.kept.samples[key] for key in group] for group in groups],
            [[gathered.sums[key] for key in group] for group in groups],
            [outcomes_of(gathered.kept.rewards.get(key, {})) for key in keys],
            gathered.asked,
        )

    def _values(self, found: Learnt) -> dict[str, float]:
        unsaid = (_OF_LEARNING,) if self.output.weights else (_OF_LEARNING, "reward/")
        return {name: value for name, value in found.values.items() if not name.startswith(unsaid)}

    def _shown(
        self, number: int, keys: list[SampleKey], gathered: GatheredRollout, found: Learnt
    ) -> list[ShownSample]:
        nobodys = replace(found, advantages=torch.full_like(found.advantages, math.nan))
        return shown(number, keys, gathered, nobodys, self.gatherer.shown, self.prompts.number)

    def write(self, reporter: Reporter) -> ShardManifest:
        """The data set, on one rank; then what it was made of is removed, which nothing depends on."""
        manifest = self.output.write(
            self.rollouts, lambda done: reporter.enter(RankPhase.CHECKPOINT, progress=done)
        )
        _remove_journals(self.store)
        return manifest


def _ended(store: CheckpointStore, uri: str, uid: str) -> GeneratedRecord | None:
    """What the answers of run `uid` at `uri` are; None: not there. Who wrote them may have left journals."""
    manifest = written(uri, uid)
    if manifest is None:
        return None
    _remove_journals(store)
    return manifest.generated


def _remove_journals(store: CheckpointStore) -> None:
    """Those of all rollouts, also beyond a length that the run was given later; nothing depends on that."""
    store.folder.remove(FOLDER)


def _open(
    config: RunConfig,
    model: ParallelModel,
    loaded: Loaded | None,
    store: CheckpointStore,
    limits: RunLimits,
    world: World,
    reporter: Reporter,
    agent: AgentClient,
    stack: ExitStack,
) -> Answering:
    """What draws, rewards and writes; `stack` ends it. Collective."""
    settings = RolloutSettings.answering(config)
    shards = open_shards(config, world, verify=True)
    prompts = _prompts(config, shards, settings, limits)
    say(world, str(prompts.dataset))
    tokenizer = Tokenizer.from_str(shards.tokenizer.decode())
    companions = find_companions(config, store, shards, world)
    ends = found_ends(companions, tokenizer, model_shape(config).vocabulary, shards.template)

    def text_of(tokens: Sequence[int]) -> str:
        text: str = tokenizer.decode(list(tokens), skip_special_tokens=False)
        return text

    rollout = config.rollout
    assert rollout is not None and rollout.output is not None
    record = _record(config, shards, model, loaded, world)
    keys = JournalKeys(drawing_key(config, record.prompts, ends.ids), functions_said(config))
    key = keys.of({DRAWN_BY: record.weights})
    generation = GenerationId.parse(os.environ.get(Env.GENERATION, "0.0"))
    journal = Journal(store.folder, generation, world.rank)
    stopwatch = Stopwatch(time.perf_counter, device.event_maker(world.device))
    rewards = open_rewards(config, prompts, world, stack)
    gatherer = Gatherer(
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
    )
    output = AnswerOutput(
        rollout.output,
        settings,
        prompts,
        shards,
        store.folder,
        key,
        rewards.weights,
        config.model.context_length,
        record,
        text_of,
        ends.of_turn,
    )
    return Answering(settings, prompts, gatherer, journal, output, limits, world, stopwatch, store)


def _prompts(
    config: RunConfig, shards: RunShards, settings: RolloutSettings, limits: RunLimits
) -> PromptOrder:
    """Those of `shards`, in the order in which they are answered; `limits` end with the last of them.

    UserMistake where the run was created with more rollouts; more that it was given later change nothing.
    """
    loss, context = config.training.loss.name, config.model.context_length
    dataset = dataset_of(shards, config.data, loss, context, config.stage)
    groups = settings.groups.prompts
    try:
        rollouts_of(len(dataset), groups, total_steps(config))
    except ValueError as error:
        raise UserMistake(str(error)) from error
    limits.bound(most_rollouts(len(dataset), groups))
    return PromptOrder(dataset, config.data.seed)


def _record(
    config: RunConfig, shards: RunShards, model: ParallelModel, loaded: Loaded | None, world: World
) -> GeneratedRecord:
    """Where answers come from: the weights that were `loaded`. Collective."""
    directory = None if loaded is None else StepDirectory.parse(loaded.directory)
    return GeneratedRecord(
        run=config.run.name,
        uid=config.run.uid,
        weights=weights_checksum(dict(model.module.named_parameters()), world.background),
        weights_from=None if loaded is None else loaded.name,
        weights_step=None if directory is None else directory.step,
        prompts=shards.digest,
        prompts_from=[source.shards.uri for source in shards.sources],
    )
