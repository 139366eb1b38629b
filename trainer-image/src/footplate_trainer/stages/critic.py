"""Models that score beside a policy: a frozen reward model, and ppo's trained value model.

The value model is a network of its own with a head of one output. It begins as the reward model, as another
scoring model, or as the policy did with a new head; from then on it is in the run's own checkpoints.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Final

from tokenizers import Tokenizer

from footplate_contracts.base import digest
from footplate_contracts.runconfig import RunConfig
from footplate_contracts.stages import SCORING_STAGE, STAGES
from footplate_contracts.v1alpha1.reinforcement import ValueModel
from footplate_contracts.v1alpha1.reward import RewardNormalization
from footplate_planning.references import value_uri
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.checkpoint.layout import StepDirectory
from footplate_trainer.checkpoint.state_tensors import AuxiliaryModel
from footplate_trainer.checkpoint.training_state import Key, TrainingState
from footplate_trainer.data.prompt_dataset import AppendedEndTokens, PromptOrder, has_rendered_prompt
from footplate_trainer.data.sample_shards import SampleShards
from footplate_trainer.data.sources import RunShards
from footplate_trainer.errors import UserMistake
from footplate_trainer.frozen.frozen_model import (
    LoadedFrozenModel,
    load_init_from,
    load_merged_weights,
    open_found_model,
)
from footplate_trainer.frozen.scoring import (
    HELD_OUT,
    REWARD_FIELD,
    ScoringModelSource,
    check_scores,
    check_unchanged,
    checkpointed_config,
    find_reward,
    find_value,
    reward_model_key,
    scoring_config,
    trained_config,
)
from footplate_trainer.frozen.source import ModelSource, check_tokenizer, network_config
from footplate_trainer.huggingface.model_end_tokens import template_end
from footplate_trainer.huggingface.saved_processors import SavedProcessors
from footplate_trainer.loop.inputs import StepInputs
from footplate_trainer.optim.optimizer import ShardedOptimizer, build_optimizer
from footplate_trainer.parallel import object_collectives
from footplate_trainer.parallel.parallel_model import ParallelModel, build_colocated
from footplate_trainer.parallel.world import DistributedContext
from footplate_trainer.rollout.answer_dataset import RowBatcher
from footplate_trainer.rollout.journal import Journal
from footplate_trainer.rollout.journal_keys import reward_name
from footplate_trainer.rollout.reward_model import MODEL, RewardModel
from footplate_trainer.rollout.reward_normalization import RewardNormalizer
from footplate_trainer.stages.start import StartPosition, TrainedValueModel, get_checkpointed_state

PREFIX: Final = "value."  # of its tensors in a checkpoint
# In a checkpoint's key: what its history stood on.
_WEIGHTS, _STEP, _TURN_END = "reward.weights", "reward.step", "data.turnEnd"


def value_settings(config: RunConfig) -> ValueModel:
    """Return the value settings of a resolved config of stage ppo."""
    assert config.reinforcement is not None and config.reinforcement.value is not None, "resolve() sets it"
    return config.reinforcement.value


def check_scoring_models(config: RunConfig, ranks: int) -> None:
    """Raise UserMistake if the reward model or the value model is unsuitable; not collective.

    A run that has a checkpoint continues with its initial reward model, and has its value model there.
    """
    before = get_checkpointed_state(config)
    known: Key = {} if before is None else before.key
    found = find_reward(config, _pinned(known))
    if found is not None:
        scoring_config(found.found, config, ranks)
        check_scores(found, config)
        check_unchanged(found, config, known)
    if STAGES[config.stage].has_value_model and value_uri(config) is not None:
        _network(config, before, None if _has_value(before) else find_value(config), ranks)


def _pinned(key: Key) -> str | None:
    """Return the directory, within its folder, of the reward model that a run began with; None if unknown."""
    return str(key.get(_STEP, "")) or None


def _has_value(before: TrainingState | None) -> bool:
    return before is not None and before.value is not None


def _network(
    config: RunConfig, before: TrainingState | None, found: ModelSource | None, ranks: int
) -> RunConfig:
    """Return `config` with the value model of a run's checkpoint, or of `found`, as which it begins.

    Raises UserMistake if the ranks cannot hold it, and if an earlier release trained only its adapters.
    """
    if before is not None and before.value is not None:
        return checkpointed_config(before.value, config, ranks)
    assert found is not None, "value_uri is set, and no checkpoint has a value model"
    if before is None:
        return trained_config(found, config, ranks)
    # Checkpoints of earlier releases do not say what their value model is: it was built as that of scores.
    if found.model.adapter is not None:
        raise found.user_mistake(
            f"its model has adapters; the earlier release that wrote step {before.step} of this run trained "
            "only those, but this release trains the whole value model; continue with that release's image, "
            "or start another run (another checkpoint.uri)"
        )
    return scoring_config(found, config, ranks)


def _found(config: RunConfig, world: DistributedContext) -> ModelSource:
    """Find the model as which the value model of `config` begins, equal on every rank. Collective."""
    found = object_collectives.compute_on_rank_0(lambda: find_value(config), world.background)
    assert found is not None, "value_uri is set"
    return found


@dataclass(frozen=True)
class Critic:
    """The value model with its optimizer, as `TrainedValueModel`.

    A checkpoint fills it, or `load_initial_weights` does.
    """

    config: RunConfig  # whose network it is
    uri: str | None  # where it begins; None: where the policy does
    found: ModelSource | None  # what is there; None where a checkpoint of the run has it already
    model: ParallelModel
    optimizer: ShardedOptimizer

    @property
    def tensors(self) -> AuxiliaryModel:
        """The value model's tensors in a checkpoint."""
        return AuxiliaryModel(self.model.module, self.optimizer.moments(), PREFIX)

    def load_initial_weights(self, start: StartPosition, world: DistributedContext) -> None:
        """Load initial weights, unless a checkpoint of the run has filled it. Collective."""
        if start.key is not None:
            self.optimizer.set_update_count(start.step)
        elif self.uri is not None:
            load_merged_weights(self.found or _found(self.config, world), self.config, self.model, world)
        elif self.config.init_from is not None:
            load_init_from(self.config, self.model, world, start.directory)
        self.model.module.sync_tied()

    def check_tokenizer(self, shards: RunShards) -> None:
        """Raise UserMistake if it begins as a model to which the ids of `shards` mean something else."""
        if self.found is not None:
            check_tokenizer(self.found, shards.tokenizer, shards.vocabulary_size)


def build_value(config: RunConfig, policy: ParallelModel, world: DistributedContext) -> Critic:
    """Build the value model of `config`, in the layout of `policy`, without weights yet. Collective."""
    uri, found = value_uri(config), None
    if uri is not None:
        before = object_collectives.compute_on_rank_0(
            lambda: get_checkpointed_state(config), world.background
        )
        found = None if _has_value(before) else _found(config, world)
        own = _network(config, before, found, world.size)
    else:
        plain = config.model.model_copy(update={"adapter": None})
        own = config.model_copy(update={"stage": SCORING_STAGE, "model": plain})
    model = build_colocated(own, world, policy)
    return Critic(own, uri, found, model, build_optimizer(model.module, config.training.optimizer))


def reward_digest(key: Key, closing: AppendedEndTokens | None = None) -> str:
    """Return a digest of all inputs of a reward model's scores but the answers; `closing` as in its rows.

    Prompts that are packed again may have the same tokens, and another end of a turn.
    """
    return digest([key[_WEIGHTS], key[_TURN_END], *(() if closing is None else astuple(closing))])


def check_turn_ends(shards: RunShards, processors: SavedProcessors, tokenizer: Tokenizer) -> None:
    """Raise UserMistake if prompts state that no token ends a turn, while their template writes one."""
    for source in shards.sources:
        packed = source.shards
        record, template = packed.manifest.samples, packed.template
        if record is None or template is None or record.turn_end != []:
            continue
        end = template_end(processors, tokenizer, template)
        if end is not None and has_rendered_prompt(SampleShards(packed)):
            raise UserMistake(
                f"{REWARD_FIELD}: {packed.uri} records that no token ends an answer, but its chat template "
                f"writes {end} there, up to which scores are read: an earlier release packed it; pack the "
                "prompts again, which writes the same shards"
            )


@dataclass(frozen=True)
class LoadedRewardModel:
    """A loaded reward model."""

    model: ParallelModel
    weight: float
    normaliser: RewardNormalizer
    key: Key  # what its weights are, and what it reads behind an answer
    place: str  # where it stood: a folder, or a run's checkpoint
    network: str  # digest of network_config
    closing: AppendedEndTokens | None = None  # see RewardModel

    @property
    def digests(self) -> dict[str, str]:
        """Digest of its scores' inputs, for a journal's key."""
        return {reward_name(MODEL): digest([reward_digest(self.key, self.closing), self.network])}

    @property
    def weights(self) -> str:
        """Checksum of its weights."""
        return str(self.key[_WEIGHTS])

    @property
    def configuration(self) -> str:
        """Digest of its rewards' inputs besides weights: with held-out scores, if those normalise."""
        return digest([self.network, self.key.get(HELD_OUT)])

    @property
    def step(self) -> int | None:
        """Step of the run's checkpoint that it was loaded from; None for other sources."""
        directory = StepDirectory.parse(str(self.key.get(_STEP, "")))
        return None if directory is None else directory.step

    def build_reward_model(
        self,
        rows: RowBatcher,
        prompts: PromptOrder,
        inputs: StepInputs,
        journal: Journal,
        world: DistributedContext,
        reporter: Reporter,
    ) -> RewardModel:
        """Build the scorer of rollouts; raise UserMistake if it cannot read answers as it was trained to."""
        try:
            prompts.check_answer_capacity(int(self.closing is not None))
        except ValueError as error:
            raise UserMistake(f"{REWARD_FIELD}: {error}") from error
        return RewardModel(
            self.model, self.weight, rows, prompts, inputs, journal, world, reporter, self.closing
        )


def load_reward_model(
    config: RunConfig,
    policy: ParallelModel,
    known: Key,
    shards: RunShards,
    world: DistributedContext,
    value: TrainedValueModel | None = None,
) -> LoadedRewardModel | None:
    """Load the reward model of `config`; None if only functions reward. Collective.

    `known` is the key in the run's checkpoint, if there is one. If a `value` model begins as the reward
    model, both are loaded from the same place. Raises UserMistake, on every rank, if an earlier generation
    had other weights.
    """
    reward = config.reward
    if reward is None or reward.uri is None:
        return None
    uri = reward.uri
    began = value.found if isinstance(value, Critic) else None
    same = began.directory if began is not None and began.uri == uri else ""
    directory = _pinned(known) or same or None

    def find() -> ScoringModelSource:
        found = find_reward(config, directory)
        assert found is not None, "reward.uri is set"
        check_tokenizer(found.found, shards.tokenizer, shards.vocabulary_size)
        check_scores(found, config)
        check_unchanged(found, config, known)
        return found

    there = object_collectives.compute_on_rank_0(find, world.background)
    scored = config.model_copy(update={"stage": SCORING_STAGE})
    opened: LoadedFrozenModel = open_found_model(there.found, scored, policy, world)
    before = known.get(_WEIGHTS)
    if before not in (None, opened.checksum):
        raise UserMistake(
            f"{REWARD_FIELD}: the weights in {uri} have changed since this run began (checksum "
            f"{opened.checksum}, was {before}); restore them, or start another run"
        )
    key: Key = {_WEIGHTS: opened.checksum, _TURN_END: shards.turn_ends, **reward_model_key(there, config)}
    if opened.step:
        key[_STEP] = opened.step
    how = reward.normalization or RewardNormalization.NONE
    weight = 1.0 if reward.weight is None else reward.weight
    checkpoint = there.found.checkpoint
    place = uri if checkpoint is None else checkpoint.name
    network = digest(network_config(there.found.model))
    return LoadedRewardModel(opened.model, weight, RewardNormalizer(how, there.scores), key, place, network)
