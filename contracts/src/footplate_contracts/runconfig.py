"""RunConfig: the complete configuration that a worker reads.

A TrainingRun leaves most things to defaults that depend on other fields. If
operator and trainer each filled them in, they would disagree one day; so
`resolve` does it once, for a run under the operator and for a file on a laptop
alike, and its result is mounted, hashed and stored with checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from pydantic import Field

from footplate_contracts.base import Contract, digest
from footplate_contracts.families import resolve_model
from footplate_contracts.lineage import with_resolved_uris
from footplate_contracts.names import Backend
from footplate_contracts.stages import STAGES
from footplate_contracts.v1alpha1.compute import Checkpoint, ResumeFrom
from footplate_contracts.v1alpha1.computeprofile import PeakTflops
from footplate_contracts.v1alpha1.data import Data, Masking, MaskingName, OverlongPolicy, Validation
from footplate_contracts.v1alpha1.model import Architecture, InitFrom, Model
from footplate_contracts.v1alpha1.parallelism import Parallelism
from footplate_contracts.v1alpha1.preference import PREFERENCE_LOSSES, Preference
from footplate_contracts.v1alpha1.presets import (
    resolve_ppo,
    resolve_reinforcement,
    resolve_reward,
    resolve_rollout,
)
from footplate_contracts.v1alpha1.references import LineageEntry, ReferenceModel
from footplate_contracts.v1alpha1.reinforcement import Reinforcement
from footplate_contracts.v1alpha1.resilience import Hang
from footplate_contracts.v1alpha1.reward import Reward, RewardNormalization
from footplate_contracts.v1alpha1.rollout import Rollout
from footplate_contracts.v1alpha1.telemetry import Telemetry
from footplate_contracts.v1alpha1.training import (
    Loss,
    LossName,
    Optimizer,
    OptimizerName,
    Schedule,
    ScheduleName,
    Stage,
    Training,
)
from footplate_contracts.v1alpha1.trainingrun import TrainingRunSpec


class RunIdentity(Contract):
    """Identity of a run; a file without a cluster has an empty uid."""

    name: str
    namespace: str = "default"
    uid: str = ""


class World(Contract):
    """Size and backend of the gang that the coordinator gathers. Ignored by a run without a cluster."""

    nodes: int = Field(1, ge=1)
    min_nodes: int | None = Field(None, description="smallest number of nodes; absent: nodes")
    max_nodes: int | None = Field(None, description="largest number of nodes; absent: nodes")
    processes_per_node: int = Field(1, ge=1)
    backend: Backend = Backend.GLOO
    peak_tflops: PeakTflops | None = Field(None, description="peak of one device, from the profile")


class RunConfig(Contract):
    """Configuration of a rank: the spec with defaults filled in, but model and data beside initFrom."""

    run: RunIdentity
    world: World
    stage: Stage
    model: Model
    data: Data
    validation: Validation | None = None
    training: Training
    preference: Preference | None = None
    reward: Reward | None = None
    reinforcement: Reinforcement | None = None
    rollout: Rollout | None = None
    parallelism: Parallelism
    checkpoint: Checkpoint
    init_from: InitFrom | None = None  # then `model` and `data` are as stated, and the trainer fills them in
    resume_from: ResumeFrom | None = None
    telemetry: Telemetry | None = None
    lineage: list[LineageEntry] | None = Field(
        None, description="artifacts of other runs, whose folders replace the names of the runs in the spec"
    )
    hang: Hang | None = Field(None, description="hang timeouts of the coordinator, beside its defaults")

    def digest(self) -> str:
        """Return the hex SHA-256 of the canonical JSON: equal configs, equal digests."""
        return digest(self.to_json())


def resolve_loss(loss: Loss) -> Loss:
    """Fill in the defaults of the loss's kind."""
    if loss.name == LossName.CONTRASTIVE and loss.temperature is None:
        return loss.model_copy(update={"temperature": 0.05})
    return loss


def resolve_optimizer(optimizer: Optimizer) -> Optimizer:
    """Fill in the defaults of the optimizer's kind; fields that it does not use stay absent."""
    name, given = optimizer.name, optimizer.model_dump(exclude_none=True)
    defaults: dict[str, object] = {"weight_decay": 0.1 if name is OptimizerName.ADAMW else 0.0}
    if name in (OptimizerName.ADAM, OptimizerName.ADAMW):
        defaults |= {"betas": [0.9, 0.95], "epsilon": 1e-8}
    elif name is OptimizerName.SGD:
        defaults |= {"momentum": 0.0, "nesterov": False}
    return optimizer.model_copy(update={**defaults, **given})


def resolve_schedule(schedule: Schedule) -> Schedule:
    """Fill in the defaults of the schedule's kind."""
    if schedule.name is ScheduleName.WSD and schedule.decay_share is None:
        return schedule.model_copy(update={"decay_share": 0.2})
    return schedule


def resolve_steps(training: Training, context_length: int) -> int:
    """Return `steps`, or else ceil(tokens / (globalBatchSize x contextLength)); ValueError for neither."""
    if training.steps is not None:
        return training.steps
    if training.tokens is None:
        raise ValueError("the length of the training is missing; set training.steps or training.tokens")
    return -(-training.tokens // (training.global_batch_size * context_length))


def resolve_training(training: Training, context_length: int) -> Training:
    """Fill in `steps` and all defaults."""
    return training.model_copy(
        update={
            "steps": resolve_steps(training, context_length),
            "loss": resolve_loss(training.loss),
            "optimizer": resolve_optimizer(training.optimizer),
            "schedule": resolve_schedule(training.schedule),
        }
    )


def resolve_data(data: Data, training: Training, architecture: Architecture) -> Data:
    """Add the masking that the architecture learns from, unless the loss reads whole texts."""
    usual = {Architecture.ENCODER: MaskingName.MLM, Architecture.ENCODER_DECODER: MaskingName.SPAN}
    name = usual.get(architecture)
    if data.masking is not None or name is None or training.loss.name != LossName.CROSS_ENTROPY:
        return data
    return data.model_copy(update={"masking": Masking(name=name)})


def resolve_overlong(data: Data, stage: Stage) -> Data:
    """Fill in `overlong`, for stages that learn from samples."""
    if not STAGES[stage].uses_conversations or data.overlong is not None:
        return data
    return data.model_copy(update={"overlong": OverlongPolicy.REFUSE})


def resolve_preference(preference: Preference | None, stage: Stage) -> Preference | None:
    """Fill in the defaults of the loss, for a stage that compares; fields that it ignores stay absent."""
    if not STAGES[stage].compares:
        return preference
    preference = preference or Preference()
    given = {name: getattr(preference, name) for name in preference.model_fields_set}
    stated = {name: value for name, value in given.items() if value is not None}
    defaults: dict[str, object] = {"beta": 0.1}
    rules = PREFERENCE_LOSSES[preference.loss]
    if rules.needs_reference:
        defaults["reference"] = ReferenceModel()
    return preference.model_copy(update={**defaults, **rules.defaults, **stated})


def resolve_network(model: Model, data: Data, training: Training) -> tuple[Model, Data]:
    """Fill in all that the family of `model` implies, in both."""
    model = resolve_model(model)
    assert model.architecture is not None, "resolve_model fills this in"
    return model, resolve_data(data, training, model.architecture)


class RolloutSections(TypedDict):
    """Sections of a stage that learns from its own answers."""

    reward: Reward | None
    reinforcement: Reinforcement | None
    rollout: Rollout | None


def resolve_rollout_sections(spec: TrainingRunSpec) -> RolloutSections:
    """Fill in all defaults of these sections for stages that generate; leave other stages' as they are."""
    rules = STAGES[spec.stage]
    if not rules.trains and spec.rollout is not None:
        return RolloutSections(
            reward=spec.reward and resolve_reward(spec.reward),
            reinforcement=None,
            rollout=resolve_rollout(spec.rollout, spec.training.global_batch_size, num_generations=1),
        )
    if not rules.reinforces or spec.rollout is None:
        return RolloutSections(reward=spec.reward, reinforcement=spec.reinforcement, rollout=spec.rollout)
    if rules.has_value_model:
        return RolloutSections(
            reward=resolve_reward(spec.reward or Reward(), RewardNormalization.HELD_OUT),
            reinforcement=resolve_ppo(spec.reinforcement or Reinforcement()),
            rollout=resolve_rollout(spec.rollout, spec.training.global_batch_size, num_generations=1),
        )
    rollout = resolve_rollout(spec.rollout, spec.training.global_batch_size)
    return RolloutSections(
        reward=resolve_reward(spec.reward or Reward()),
        reinforcement=resolve_reinforcement(spec.reinforcement or Reinforcement(), rollout.max_tokens),
        rollout=rollout,
    )


def require_model(spec: TrainingRunSpec) -> Model:
    """Return the model of a spec that passed the CRD's rules; ValueError for one that did not."""
    if spec.model is None:
        raise ValueError("model is required: the shape of the network")
    return spec.model


def resolve(
    spec: TrainingRunSpec, identity: RunIdentity, world: World, lineage: Sequence[LineageEntry] = ()
) -> RunConfig:
    """Resolve a spec that passed the CRD's rules; ValueError for one that did not.

    `lineage` has the folders of the other runs that the spec names; ValueError where one is missing.
    """
    spec = with_resolved_uris(spec, lineage)
    model, data = require_model(spec), resolve_overlong(spec.data, spec.stage)
    if spec.init_from is None:
        model, data = resolve_network(model, data, spec.training)
    return RunConfig(
        run=identity,
        world=world,
        stage=spec.stage,
        model=model,
        data=data,
        validation=spec.validation,
        training=resolve_training(spec.training, model.context_length),
        preference=resolve_preference(spec.preference, spec.stage),
        **resolve_rollout_sections(spec),
        parallelism=spec.parallelism,
        checkpoint=spec.checkpoint,
        init_from=spec.init_from,
        resume_from=spec.resume_from,
        telemetry=spec.telemetry,
        lineage=list(lineage) or None,
        hang=spec.resilience.hang,
    )
