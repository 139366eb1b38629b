"""Inputs of a stage that trains on its own answers: opened, before anything is sampled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from tokenizers import Tokenizer

from footplate_contracts.directives import Command
from footplate_contracts.runconfig import RunConfig
from footplate_contracts.stages import STAGES
from footplate_elastic.protocol.agent_client import AgentClient
from footplate_planning.topology import Topology
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.checkpoint.training_state import Key
from footplate_trainer.data.prompt_dataset import PromptOrder
from footplate_trainer.data.sources import RunShards, dataset_of
from footplate_trainer.errors import TrainerError
from footplate_trainer.generation.requests import StopRule
from footplate_trainer.huggingface.model_end_tokens import find_end_tokens
from footplate_trainer.huggingface.saved_processors import SavedProcessors
from footplate_trainer.loop.stepper import Stepper
from footplate_trainer.model.policy_loss import REFERENCE
from footplate_trainer.parallel import object_collectives
from footplate_trainer.parallel.checksum import weights_checksum
from footplate_trainer.parallel.value_objective import OLD_VALUE
from footplate_trainer.parallel.world import DistributedContext
from footplate_trainer.rewards.reward_functions import RewardFunctions
from footplate_trainer.rollout.answer_dataset import RowBatcher, RowShape
from footplate_trainer.rollout.answer_sampler import EngineSampler
from footplate_trainer.rollout.batches import RolloutBatches
from footplate_trainer.rollout.collector import RolloutCollector
from footplate_trainer.rollout.journal import Journal
from footplate_trainer.rollout.journal_keys import (
    DRAWN_BY,
    JournalKeyBuilder,
    reward_function_digests,
    sampling_digest,
    scores_name,
    value_position_digest,
)
from footplate_trainer.rollout.scores import POLICY, Models, RolloutScorer, ValueScorer
from footplate_trainer.rollout.settings import RolloutSettings
from footplate_trainer.stages.critic import LoadedRewardModel
from footplate_trainer.stages.offline_stages import TrainingSetup, log_on_rank_0, warn_on_rank_0
from footplate_trainer.stages.reference import StageReference

MakeGatherer = Callable[..., RolloutCollector]
"""With the arguments of RolloutCollector."""


@dataclass(frozen=True)
class RolloutInputs:
    """All participants of a rollout, on one rank."""

    begun: TrainingSetup
    shards: RunShards
    tokenizer: Tokenizer
    ends: frozenset[int]  # tokens that end an answer
    stepper: Stepper
    value: Stepper | None  # of the value model, where the stage has one
    reference: StageReference
    reward_model: LoadedRewardModel | None
    world: DistributedContext
    reporter: Reporter
    agent: AgentClient

    @property
    def checkpoint_key(self) -> Key:
        """Checkpoint key of the weights of the reference and the reward model."""
        return {**self.reference.key, **({} if self.reward_model is None else self.reward_model.key)}

    def open_batches(self, stack: ExitStack, make_collector: MakeGatherer) -> RolloutBatches:
        """Return the batches of training steps; `stack` closes the reward functions. Collective."""
        begun, world, reward_model = self.begun, self.world, self.reward_model
        config, grid = begun.config, begun.model.grid
        settings = RolloutSettings.of(config).with_id_limit(self.shards.vocabulary_size)
        prompts = self._prompts()
        log_prompts(prompts, settings, world)
        journal = Journal(begun.store.folder, begun.generation, world.rank)
        rows = RowBatcher(settings, grid, row_shape(config, grid.topology, self.shards), config.data.seed)
        collector = make_collector(
            settings,
            prompts,
            EngineSampler(config, settings, begun.model, world, self._stop()),
            open_rewards(config, prompts, world, stack),
            journal,
            begun.store.folder,
            world,
            self.reporter,
            self.stepper.stopwatch,
            text_of=self._text_of,
            stopping=self._stopping,
            model=None
            if reward_model is None
            else reward_model.build_reward_model(
                rows, prompts, self.stepper.inputs, journal, world, self.reporter
            ),
        )
        return RolloutBatches(
            settings,
            collector,
            RolloutScorer(
                settings, prompts, self.stepper, journal, grid, world, self.reporter, self._stopping
            ),
            self._models(settings),
            prompts,
            journal,
            begun.store,
            world,
            rows,
            None if reward_model is None else reward_model.normaliser,
            begun.start.rollout,
            self._keys(settings),
            self._weights,
        )

    def _prompts(self) -> PromptOrder:
        config = self.begun.config
        loss, context = config.training.loss.name, config.model.context_length
        dataset = dataset_of(self.shards, config.data, loss, context, STAGES[config.stage])
        return PromptOrder(dataset, config.data.seed)

    def _text_of(self, tokens: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(tokens), skip_special_tokens=False)
        return text

    def _stop(self) -> StopRule:
        rollout = self.begun.config.rollout
        assert rollout is not None
        return StopRule(self.ends, tuple(rollout.stop), self._text_of)

    def _stopping(self) -> bool:
        return self.agent.command() is Command.CHECKPOINT_AND_EXIT

    def _models(self, settings: RolloutSettings) -> Models:
        """Return the models whose scores the loss and the advantages need.

        The policy before its updates: with several updates, a KL target or a value model; the reference and
        the value model: if the stage has one.
        """
        value, reference = self.value, self.reference.model
        old = POLICY if settings.updates > 1 or settings.target is not None or value is not None else {}
        kept_near = {} if reference is None else {REFERENCE: reference}
        return {**old, **kept_near, **({} if value is None else {OLD_VALUE: ValueScorer(value)})}

    def _keys(self, settings: RolloutSettings) -> JournalKeyBuilder:
        """Return the builder of the run's journal keys."""
        config, reward_model, reference = self.begun.config, self.reward_model, self.reference
        after_end = settings.values is not None and settings.values.after_end
        said = {
            **reward_function_digests(config),
            **({} if reward_model is None else reward_model.digests),
            **({} if reference.model is None else {scores_name(REFERENCE): reference.checksum}),
            scores_name(OLD_VALUE): value_position_digest(after_end=after_end),
        }
        shards = self.shards
        drawn = sampling_digest(config, shards.digest, shards.vocabulary_size, self.ends, shards.turn_ends)
        return JournalKeyBuilder(drawn, said)

    def _weights(self) -> dict[str, str]:
        """Return checksums of the trained models as they are now. Collective, in the training loop alone."""
        begun, group = self.begun, self.world.everybody
        trained = {DRAWN_BY: begun.model, **({} if begun.beside is None else {OLD_VALUE: begun.beside.model})}
        return {
            name: weights_checksum(dict(model.module.named_parameters()), group)
            for name, model in trained.items()
        }


def find_answer_end_tokens(
    shards: RunShards, processors: SavedProcessors, tokenizer: Tokenizer, world: DistributedContext
) -> frozenset[int]:
    """Return the data's tokens that end an answer of a model, also of one without a template. Collective.

    They are the tokens that end its texts, and a turn in the templates that prompts were rendered in. Ranks
    that share a network plan passes by them, and rendering a template may succeed on one rank and fail on
    another, whose node has no memory left.
    """

    def find() -> frozenset[int]:
        sources, ids = (source.shards for source in shards.sources), shards.vocabulary_size
        found = (find_end_tokens(processors, tokenizer, ids, packed.template).ids for packed in sources)
        return frozenset[int]().union(*found)

    return object_collectives.compute_on_rank_0(find, world.background)


def log_prompts(prompts: PromptOrder, settings: RolloutSettings, world: DistributedContext) -> None:
    """Log the number of prompts, and a warning if some of them leave less room for answers than others."""
    log_on_rank_0(world, str(prompts.dataset))
    warn_on_rank_0(world, prompts.truncation_warning(settings.max_tokens))


def row_shape(config: RunConfig, topology: Topology, shards: RunShards) -> RowShape:
    """Return the shape of rows: as narrow as a rollout allows, unless all steps need one shape."""
    fixed = topology.pipeline > 1 or topology.context > 1 or config.training.compile
    micro_batch, pad = config.training.micro_batch_size, shards.sources[0].shards.special.padding
    return RowShape(config.model.context_length, topology.tensor, fixed, pad, micro_batch)


def open_rewards(
    config: RunConfig, prompts: PromptOrder, world: DistributedContext, stack: ExitStack
) -> RewardFunctions:
    """Start the run's reward functions, on each rank; the first error of any is raised on all. Collective."""
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
    except OSError as failed:
        told = f"{failed.strerror or failed}; the next start retries"
        error = TrainerError(f"rank {world.rank} cannot start the processes of reward.functions: {told}")
    object_collectives.raise_first(error, world.everybody)
    assert rewards is not None
    return rewards
