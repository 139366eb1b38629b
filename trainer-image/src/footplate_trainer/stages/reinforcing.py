"""The program of stages that learn from answers which the model gives itself, top to bottom.

As the stages that learn from a fixed data set (`learning`), but for where a step's batch comes from: a
rollout is drawn, rewarded and kept before the first step that is trained on it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tokenizers import Tokenizer

from footplate_contracts.directives import Command
from footplate_contracts.model import digest
from footplate_contracts.names import ExitCode
from footplate_contracts.reports import RankPhase
from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.reinforcement import KlIn, RatioOf
from footplate_contracts.v1alpha1.training import Stage
from footplate_elastic.protocol.agent_client import AgentClient
from footplate_planning.config import model_shape
from footplate_planning.topology import Topology
from footplate_trainer.callbacks.checkpoints import DurableCheckpoints, FailedCheckpoints, MemoryCheckpoints
from footplate_trainer.callbacks.diagnostics import Diagnostics
from footplate_trainer.callbacks.lease import Lease
from footplate_trainer.callbacks.limits import LimitsFollower
from footplate_trainer.callbacks.metric_rows import open_metric_rows
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.callbacks.suspension import Suspension
from footplate_trainer.checkpoint import state
from footplate_trainer.checkpoint.store import storage_errors
from footplate_trainer.data.prompt_dataset import PromptOrder
from footplate_trainer.data.sources import RunShards, dataset_of
from footplate_trainer.errors import TrainerError
from footplate_trainer.generation.requests import StopRule
from footplate_trainer.huggingface.ends import model_ends
from footplate_trainer.loop.callbacks import Callbacks
from footplate_trainer.loop.pair import PairStepper
from footplate_trainer.loop.stepper import Stepper
from footplate_trainer.loop.train import train
from footplate_trainer.model.policy_judge import REFERENCE, PolicyLoss
from footplate_trainer.parallel import agree
from footplate_trainer.parallel.judged import Judged
from footplate_trainer.parallel.valued import OLD_VALUE, ClippedValues
from footplate_trainer.parallel.world import World, read_environment
from footplate_trainer.rewards.asking import RewardFunctions
from footplate_trainer.rollout.batches import RolloutBatches
from footplate_trainer.rollout.gathering import Gatherer
from footplate_trainer.rollout.journal import Journal
from footplate_trainer.rollout.rows import Rows, RowShape
from footplate_trainer.rollout.sampling import EngineSampler
from footplate_trainer.rollout.scores import POLICY, Models, Scorer, ValueModel
from footplate_trainer.rollout.settings import RolloutSettings
from footplate_trainer.rollout.values import RolloutValues
from footplate_trainer.rollout.watch import RolloutWatch
from footplate_trainer.stages.companions import find_companions
from footplate_trainer.stages.critic import (
    OpenedReward,
    build_value,
    check_scoring_models,
    open_reward,
    value_settings,
)
from footplate_trainer.stages.inputs import open_shards
from footplate_trainer.stages.learning import (
    Beginning,
    begin,
    farewell,
    greeting,
    open_saver,
    require_decoder,
    say,
    state_of,
)
from footplate_trainer.stages.process import Program, run_stage
from footplate_trainer.stages.reference import StageReference, check_reference
from footplate_trainer.stages.start import state_writer


def main(config: RunConfig, agent: AgentClient, metrics: Path | None = None) -> ExitCode:
    """Train `config` as the rank that the environment names; every error ends in its exit code.

    `metrics` is a file for rows beside those that the run asks for.
    """

    def stage(config: RunConfig) -> Program:
        require_decoder(config)
        ranks = read_environment(os.environ).world_size
        check_reference(config, ranks)
        check_scoring_models(config, ranks)
        return partial(_reinforce, config, agent, metrics)

    return run_stage(config, agent, stage)


def policy_loss(config: RunConfig) -> PolicyLoss:
    """What `config`, resolved, minimises."""
    learning, rollout = config.reinforcement, config.rollout
    assert learning is not None and rollout is not None
    clip = learning.clip
    assert clip.low is not None and clip.high is not None, "resolve() fills these in"
    assert learning.aggregation is not None and learning.kl.estimator is not None
    return PolicyLoss.of(
        low=clip.low,
        high=clip.high,
        dual=clip.dual,
        by_sequence=learning.ratio_of is RatioOf.SEQUENCE,
        aggregation=learning.aggregation,
        longest=rollout.max_tokens,
        estimator=learning.kl.estimator,
        temperature=rollout.sampling.temperature,
        reference=bool(learning.kl.coefficient) and learning.kl.placement is KlIn.LOSS,
    )


def journal_key(config: RunConfig, data: str) -> str:
    """Names what decides answers, rewards and scores but for weights; `data` is the digest of the prompts."""
    plain = config.to_json()
    sections = ("stage", "model", "initFrom", "resumeFrom", "reward", "reinforcement")
    drawn = {
        name: plain["rollout"].get(name) for name in ("samples", "group", "maxTokens", "stop", "sampling")
    }
    seeds = {"seed": config.training.seed, "dataSeed": config.data.seed}
    said = {name: plain.get(name) for name in sections}
    return digest({**said, "rollout": drawn, **seeds, "data": data})


def _reinforce(
    config: RunConfig, agent: AgentClient, metrics: Path | None, world: World, reporter: Reporter
) -> ExitCode:
    begun = begin(config, agent, world, reporter, build_value if config.stage is Stage.PPO else None)
    config, model, start, limits = begun.config, begun.model, begun.start, begun.limits
    shards = open_shards(config, world, verify=start.key is None)
    reporter.data = shards.digest
    beside = () if begun.beside is None else (begun.beside.tensors,)
    host = state.HostCopy(model.module, begun.optimizer.moments(), model.host_mesh, *beside)
    companions = find_companions(config, begun.store, shards.tokenizer, world)
    saver = open_saver(begun, world, host, shards.tokenizer, companions, agent)
    stepper = Stepper(
        model,
        begun.optimizer,
        world,
        config.training.gradient_clip_norm,
        Judged(policy_loss(config)),
        config.training.seed,
    )
    reference = StageReference(config, model, start, shards, world)
    judge = open_reward(config, model, start, shards, world)
    value = _value_stepper(begun, stepper, world)
    tokenizer = Tokenizer.from_str(shards.tokenizer.decode())
    ends = model_ends(companions, tokenizer, model_shape(config).vocabulary)
    with ExitStack() as stack:
        batches = _open_batches(
            begun, shards, tokenizer, ends, stepper, value, reference, judge, world, reporter, agent, stack
        )
        rows = open_metric_rows(config, agent, limits, reporter, world, metrics)
        stood_on = {**reference.key, **({} if judge is None else judge.key)}
        writer = state_writer(config, start, shards, world, stood_on)
        state_now = partial(state_of, writer, limits, reporter, agent, batches.position)
        durable = DurableCheckpoints(saver, state_now, limits, reporter, stepper.stopwatch, rows.flush)
        copies = begun.copies
        callbacks = Callbacks(
            reporter,
            Lease(agent),
            Suspension(agent),
            Diagnostics(config.checkpoint.uri, agent, world, reporter),
            LimitsFollower(limits, agent, world, start.step),
            _values(config, batches, world),
            FailedCheckpoints(saver),
            rows,
            durable,
            MemoryCheckpoints(copies, state_now, reporter, stepper.stopwatch) if copies else None,
        )
        say(world, greeting(limits, world, start.step))
        steps = stepper if value is None else PairStepper(stepper, value, batches.places)
        last = train(steps, batches, limits, callbacks, start.step)
        if not _is_durable(begun, durable, world, reporter.step):
            durable.save(ends=True)  # suspended in the middle of a rollout
        batches.close()
        callbacks.close()
    reporter.enter(RankPhase.FINISHED)
    say(world, farewell(limits, reporter.step, last))
    return ExitCode.SUSPENDED if reporter.step < limits.steps else ExitCode.SUCCESS


def _value_stepper(begun: Beginning, policy: Stepper, world: World) -> Stepper | None:
    """What moves the value model, where the stage has one."""
    if begun.beside is None:
        return None
    settings, training = value_settings(begun.config), begun.config.training
    return Stepper(
        begun.beside.model,
        begun.beside.optimizer,
        world,
        training.gradient_clip_norm,
        ClippedValues(settings.clip, settings.weight),
        training.seed,
        policy.stopwatch,
    )


def _is_durable(begun: Beginning, durable: DurableCheckpoints, world: World, step: int) -> bool:
    """Whether another start would find `step`, the last. Waits for a checkpoint in flight. Collective."""
    durable.saver.finish()

    def found() -> bool:
        with storage_errors(f"checkpoint folder {begun.store.uri}"):
            return step in begun.store.steps()

    return agree.from_rank_0(found, world.everybody)


def _open_batches(
    begun: Beginning,
    shards: RunShards,
    tokenizer: Tokenizer,
    ends: frozenset[int],
    stepper: Stepper,
    value: Stepper | None,
    reference: StageReference,
    judge: OpenedReward | None,
    world: World,
    reporter: Reporter,
    agent: AgentClient,
    stack: ExitStack,
) -> RolloutBatches:
    """What steps are trained on; `stack` ends what draws and rewards. Collective."""
    config, grid = begun.config, begun.model.grid
    settings = RolloutSettings.of(config)
    assert config.rollout is not None
    dataset = dataset_of(
        shards, config.data, config.training.loss.name, config.model.context_length, config.stage
    )
    prompts = PromptOrder(dataset, config.data.seed)
    say(world, str(dataset))

    def text_of(tokens: Sequence[int]) -> str:
        text: str = tokenizer.decode(list(tokens), skip_special_tokens=False)
        return text

    key = journal_key(config, shards.digest)
    journal = Journal(begun.store.folder, begun.generation, world.rank, key)
    rows = Rows(settings, grid, _row_shape(config, grid.topology, shards), config.data.seed)
    stop = StopRule(ends, tuple(config.rollout.stop), text_of)
    gatherer = Gatherer(
        settings,
        prompts,
        EngineSampler(config, settings, begun.model, world, stop),
        open_rewards(config, prompts, world, stack),
        journal,
        begun.store.folder,
        world,
        reporter,
        stepper.stopwatch,
        key=key,
        text_of=text_of,
        stopping=lambda: agent.command() is Command.CHECKPOINT_AND_EXIT,
        model=None if judge is None else judge.rewarding(rows, prompts, stepper, journal, world, reporter),
    )
    return RolloutBatches(
        settings,
        gatherer,
        Scorer(settings, prompts, stepper, journal, grid, world, reporter),
        _models(settings, reference, value),
        prompts,
        journal,
        begun.store,
        world,
        rows,
        None if judge is None else judge.normaliser,
        begun.start.rollout,
    )


def _models(settings: RolloutSettings, reference: StageReference, value: Stepper | None) -> Models:
    """Whose log-probabilities the loss wants: the policy's of before, where one update follows another.

    And those of before, and values, for advantages that a value model is asked for.
    """
    old = POLICY if settings.updates > 1 or settings.target is not None or value is not None else {}
    kept_near = {} if reference.model is None else {REFERENCE: reference.model}
    return {**old, **kept_near, **({} if value is None else {OLD_VALUE: ValueModel(value)})}


def _values(config: RunConfig, batches: RolloutBatches, world: World) -> RolloutValues:
    """What rows say of rollouts."""
    assert config.reward is not None and config.reinforcement is not None
    unweighed = frozenset(function.name for function in config.reward.functions or () if not function.weight)
    return RolloutValues(batches, world, RolloutWatch(config.reinforcement.kl.target, unweighed))


def _row_shape(config: RunConfig, topology: Topology, shards: RunShards) -> RowShape:
    """As narrow as a rollout allows, where nothing wants all steps to have one shape."""
    fixed = topology.pipeline > 1 or topology.context > 1 or config.training.compile
    micro_batch, pad = config.training.micro_batch_size, shards.sources[0].shards.special.padding
    return RowShape(config.model.context_length, topology.tensor, fixed, pad, micro_batch)


def open_rewards(config: RunConfig, prompts: PromptOrder, world: World, stack: ExitStack) -> RewardFunctions:
    """The run's functions, on each rank; the first error of any is raised on all. Collective."""
    assert config.rollout is not None
    functions = (config.reward and config.reward.functions) or ()
    error: TrainerError | None = None
    rewards: RewardFunctions | None = None
    try:
        rewards = stack.enter_context(
            RewardFunctions(
                functions,
                columns=prompts.columns,
                max_tokens=config.rollout.max_tokens,
            )
        )
    except TrainerError as failed:
        error = failed
    agree.raise_first(error, world.everybody)
    assert rewards is not None
    return rewards
