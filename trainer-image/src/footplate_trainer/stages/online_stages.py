"""The program of stages that train on answers which the model generates itself, top to bottom.

As the stages that train on a fixed data set (`learning`), except for the source of a step's batch: a
rollout is sampled, rewarded and journalled before the first step that trains on it.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from footplate_contracts.names import ExitCode
from footplate_contracts.reports import RankPhase
from footplate_contracts.runconfig import RunConfig
from footplate_contracts.stages import STAGES
from footplate_contracts.v1alpha1.reinforcement import ImportanceSamplingLevel, KlPlacement
from footplate_elastic.protocol.agent_client import AgentClient
from footplate_trainer.callbacks.checkpoints import DurableCheckpoints, MemoryCheckpoints, SkippedCheckpoints
from footplate_trainer.callbacks.diagnostics import Diagnostics
from footplate_trainer.callbacks.limits import LeaseCallback, LimitsFollower, SuspensionCallback
from footplate_trainer.callbacks.metric_rows import open_metric_rows
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.checkpoint import state_tensors
from footplate_trainer.checkpoint.store import storage_errors
from footplate_trainer.data.tokenizer_json import parse_tokenizer
from footplate_trainer.loop.callbacks import Callbacks
from footplate_trainer.loop.stepper import PolicyValueStepper, Stepper
from footplate_trainer.loop.training_loop import train
from footplate_trainer.model.policy_loss import PolicyLoss
from footplate_trainer.parallel.loss_objective import LossObjective
from footplate_trainer.parallel.object_collectives import compute_on_rank_0
from footplate_trainer.parallel.value_objective import ClippedValues
from footplate_trainer.parallel.world import DistributedContext, read_environment
from footplate_trainer.rollout.batches import RolloutBatches
from footplate_trainer.rollout.collector import RolloutCollector
from footplate_trainer.rollout.rollout_metrics import RolloutMetrics, RolloutMonitor
from footplate_trainer.stages.critic import (
    Critic,
    build_value,
    check_scoring_models,
    check_turn_ends,
    load_reward_model,
    value_settings,
)
from footplate_trainer.stages.inputs import open_shards
from footplate_trainer.stages.offline_stages import (
    TrainingSetup,
    build_training_setup,
    build_training_state,
    end_message,
    log_on_rank_0,
    open_saver,
    require_decoder,
    start_message,
)
from footplate_trainer.stages.process import Program, run_stage
from footplate_trainer.stages.processor_lookup import find_saved_processors
from footplate_trainer.stages.reference import StageReference, check_reference
from footplate_trainer.stages.rollouts import MakeGatherer, RolloutInputs, find_answer_end_tokens
from footplate_trainer.stages.start import state_writer


def main(
    config: RunConfig,
    agent: AgentClient,
    metrics: Path | None = None,
    make_collector: MakeGatherer = RolloutCollector,
) -> ExitCode:
    """Train `config` as the rank that the environment names; every error ends in its exit code.

    `metrics` is a file for rows beside those that the run configures; `make_collector` builds the
    collector of answers and rewards.
    """

    def stage(config: RunConfig) -> Program:
        require_decoder(config)
        ranks = read_environment(os.environ).world_size
        check_reference(config, ranks)
        check_scoring_models(config, ranks)
        return partial(_reinforce, config, agent, metrics, make_collector)

    return run_stage(config, agent, stage)


def policy_loss(config: RunConfig) -> PolicyLoss:
    """Return the policy loss of the resolved `config`."""
    learning, rollout = config.reinforcement, config.rollout
    assert learning is not None and rollout is not None
    clip = learning.clip
    assert clip.low is not None and clip.high is not None, "resolve() fills these in"
    assert learning.aggregation is not None and learning.kl.estimator is not None
    return PolicyLoss.of(
        low=clip.low,
        high=clip.high,
        dual=clip.dual,
        by_sequence=learning.importance_sampling_level is ImportanceSamplingLevel.SEQUENCE,
        aggregation=learning.aggregation,
        longest=rollout.max_tokens,
        estimator=learning.kl.estimator,
        temperature=rollout.sampling.temperature,
        reference=bool(learning.kl.coefficient) and learning.kl.placement is KlPlacement.LOSS,
    )


def _reinforce(
    config: RunConfig,
    agent: AgentClient,
    metrics: Path | None,
    make_collector: MakeGatherer,
    world: DistributedContext,
    reporter: Reporter,
) -> ExitCode:
    build = build_value if STAGES[config.stage].has_value_model else None
    begun = build_training_setup(config, agent, world, reporter, build)
    config, model, start, limits, critic = begun.config, begun.model, begun.start, begun.limits, begun.beside
    shards = open_shards(config, world, verify=start.key is None)
    reporter.data = shards.digest
    beside = () if begun.beside is None else (begun.beside.tensors,)
    host = state_tensors.HostCopy(model.module, begun.optimizer.moments(), model.host_mesh, *beside)
    processors = find_saved_processors(config, begun.store, shards, world)
    saver = open_saver(begun, world, host, shards.tokenizer, processors, agent)
    training, loss = config.training, LossObjective(policy_loss(config))
    stepper = Stepper(model, begun.optimizer, world, training.gradient_clip_norm, loss, training.seed)
    reference = StageReference(config, model, start, shards, world)
    reward_model = load_reward_model(config, model, start.key or {}, shards, world, critic)
    if isinstance(critic, Critic):
        critic.check_tokenizer(shards)
    value = _value_stepper(begun, stepper, world)
    tokenizer = parse_tokenizer(shards.tokenizer)
    if reward_model is not None:
        compute_on_rank_0(partial(check_turn_ends, shards, processors, tokenizer), world.background)
    ends = find_answer_end_tokens(shards, processors, tokenizer, world)
    inputs = RolloutInputs(
        begun, shards, tokenizer, ends, stepper, value, reference, reward_model, world, reporter, agent
    )
    with ExitStack() as stack:
        batches = inputs.open_batches(stack, make_collector)
        own = critic.config if isinstance(critic, Critic) else None
        rows = open_metric_rows(config, agent, limits, reporter, world, metrics, own)
        writer = state_writer(config, start, shards, world, inputs.checkpoint_key, own)
        state_now = partial(build_training_state, writer, limits, reporter, agent, batches.position)
        durable = DurableCheckpoints(saver, state_now, limits, reporter, stepper.stopwatch, rows.flush)
        callbacks = Callbacks(
            reporter,
            LeaseCallback(agent),
            SuspensionCallback(agent),
            Diagnostics(config.checkpoint.uri, agent, world, reporter),
            LimitsFollower(limits, agent, world, start.step),
            _values(config, batches, world),
            SkippedCheckpoints(saver),
            rows,
            durable,
            MemoryCheckpoints(begun.copies, state_now, reporter, stepper.stopwatch) if begun.copies else None,
        )
        log_on_rank_0(world, start_message(limits, world, start.step))
        steps = stepper if value is None else PolicyValueStepper(stepper, value, batches.value_batch)
        with batches.naming_rewards():
            last = train(steps, batches, limits, callbacks, start.step)
        _end_durably(begun, durable, world, reporter.step)
        batches.close()
        callbacks.close()
    reporter.report_phase(RankPhase.FINISHED)
    log_on_rank_0(world, end_message(limits, reporter.step, last))
    return ExitCode.SUSPENDED if reporter.step < limits.steps else ExitCode.SUCCESS


def _value_stepper(begun: TrainingSetup, policy: Stepper, world: DistributedContext) -> Stepper | None:
    """Return the stepper that trains the value model, or None without one."""
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


def _end_durably(
    begun: TrainingSetup, durable: DurableCheckpoints, world: DistributedContext, step: int
) -> None:
    """Save `step`, the last, unless it is durable; report it if this start only found it. Collective."""
    if not _is_durable(begun, durable, world, step):
        durable.save(ends=True)  # suspended in the middle of a rollout
    elif step == begun.start.step:
        durable.report_resumed_checkpoint(step)


def _is_durable(
    begun: TrainingSetup, durable: DurableCheckpoints, world: DistributedContext, step: int
) -> bool:
    """Return whether `step`, the last, has a checkpoint. Waits for a checkpoint in flight. Collective."""
    durable.saver.finish()

    def found() -> bool:
        with storage_errors(f"checkpoint folder {begun.store.uri}"):
            return step in begun.store.steps()

    return compute_on_rank_0(found, world.everybody)


def _values(config: RunConfig, batches: RolloutBatches, world: DistributedContext) -> RolloutMetrics:
    """Return the callback that adds rollouts' metrics to rows."""
    assert config.reward is not None and config.reinforcement is not None
    unweighed = frozenset(function.name for function in config.reward.functions or () if not function.weight)
    return RolloutMetrics(batches, world, RolloutMonitor(config.reinforcement.kl.target, unweighed))
