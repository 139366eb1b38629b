"""TrainingRun: one model, trained once, whatever happens on the way."""

from __future__ import annotations

from typing import Annotated, ClassVar, TypedDict

from pydantic import Field

from footplate_contracts.names import RUN_NAME_LIMIT
from footplate_contracts.rules import (
    Rule,
    forbidden_rule,
    immutable,
    required,
    required_rule,
    unsupported_field,
)
from footplate_contracts.stages import DEFAULT_STAGE, STAGES, stages_with
from footplate_contracts.v1alpha1.budget import BUDGET_RULES, Budget
from footplate_contracts.v1alpha1.compute import Checkpoint, Compute, ResumeFrom
from footplate_contracts.v1alpha1.data import Data, Validation
from footplate_contracts.v1alpha1.generate import GENERATE_RULES
from footplate_contracts.v1alpha1.grpo import GRPO_RULES
from footplate_contracts.v1alpha1.model import InitFrom, Model, architecture_of
from footplate_contracts.v1alpha1.parallelism import Parallelism
from footplate_contracts.v1alpha1.pods import Trainer
from footplate_contracts.v1alpha1.ppo import PPO_RULES
from footplate_contracts.v1alpha1.preference import Preference
from footplate_contracts.v1alpha1.references import ReferenceField
from footplate_contracts.v1alpha1.reinforcement import Reinforcement
from footplate_contracts.v1alpha1.resilience import Resilience
from footplate_contracts.v1alpha1.reward import REWARD_RULES, Reward
from footplate_contracts.v1alpha1.rollout import Rollout
from footplate_contracts.v1alpha1.telemetry import Telemetry
from footplate_contracts.v1alpha1.training import Stage, Training
from footplate_contracts.v1alpha1.types import ApiModel, Label, Name, Seconds

_NEVER = (
    "stage",
    "data",
    "training.seed",
    "training.optimizer",
    "training.globalBatchSize",
    "training.loss",
    "training.schedule",
    "training.precision",
    "training.deterministic",
    "checkpoint.uri",
)
_CONVERSATIONS = [str(stage) for stage, rules in STAGES.items() if rules.uses_conversations]
_NO_CONVERSATIONS = f"!(self.stage in {_CONVERSATIONS})"
_OF_STAGES = ("preference", "reward", "reinforcement", "rollout")  # sections that some stages have
_SUSPENDED_ONLY = (
    "parallelism",
    "training.microBatchSize",
    "compute.profile",
    "trainer",
)
_SUSPENDED_ONLY_OPTIONAL = (
    "compute.processesPerNode",
    "priorityClassName",
)


class _While(TypedDict):
    unless: str
    remedy: str


_WHILE_SUSPENDED = _While(
    unless="oldSelf.suspend", remedy=" while the run is active; set spec.suspend to true first"
)

_ARCHITECTURE = architecture_of("self.model")
_BLOCKS = (
    "(self.model.layers + (has(self.model.decoderLayers) ? self.model.decoderLayers"
    f" : {_ARCHITECTURE} == 'encoder-decoder' ? self.model.layers : 0))"
)
_RANKS = "self.compute.nodes * self.compute.processesPerNode"
_SLICE = "self.parallelism.tensor * self.parallelism.pipeline * self.parallelism.context"
_TENSOR = "self.parallelism.tensor"
_INIT_FROM = (
    "!has(self.initFrom) ? '' : has(self.initFrom.uri) ? self.initFrom.uri"
    " : has(self.initFrom.run) ? self.initFrom.run.name : ''"
)
_STAGES = "self.parallelism.pipeline * self.parallelism.virtualStages"
_SEQUENCE_PIECES = (
    "self.parallelism.context * self.parallelism.tensor"
    " * (self.parallelism.context > 1 && self.parallelism.tensor % 2 == 1 ? 2 : 1)"
)
_STEP_TOKENS = "self.training.globalBatchSize * self.model.contextLength"
_STEPS = f"(self.training.tokens + {_STEP_TOKENS} - 1) / ({_STEP_TOKENS})"


def _of_stages(field: str, *stages: str) -> Rule:
    """Return the rule that a field is present only in some stages."""
    return forbidden_rule(
        f"!has(self.{field}) || self.stage in {list(stages)}",
        f"{field} is a field of stage {' and '.join(stages)}, and stage is {{self.stage}}; remove it",
        field=field,
    )


class TrainingRunSpec(ApiModel):
    """Model, data and length of a training, and the nodes for it."""

    stage: Stage = DEFAULT_STAGE
    model: Model | None = None
    init_from: InitFrom | None = None
    data: Data
    validation: Validation | None = None
    training: Training
    preference: Preference | None = None
    reward: Reward | None = None
    reinforcement: Reinforcement | None = None
    rollout: Rollout | None = None
    parallelism: Parallelism = Parallelism()
    compute: Compute
    checkpoint: Checkpoint
    resume_from: ResumeFrom | None = None
    resilience: Resilience = Resilience()
    trainer: Trainer = Trainer()
    telemetry: Telemetry | None = None
    budget: Budget | None = Field(None, description="cost limits; absent: none")
    queue: Label | None = Field(None, description="name of a Kueue LocalQueue")
    priority_class_name: Name | None = Field(None, description="priority class, as in a pod")
    suspend: bool = Field(False, description="true: save a checkpoint, then release all pods")
    pod_retention_seconds: Seconds = Field(3600, description="how long ended pods keep their logs")
    ttl_seconds_after_finished: Seconds | None = Field(
        None,
        description="seconds after its end at which the run is deleted, as a Job is, once the API has"
        " stored its final status",
    )

    rules: ClassVar = (
        required("model", "the shape of the network"),
        unsupported_field("queue"),
        *(
            required_rule(
                f"!has(self.model) || has(self.model.{size}) || has(self.initFrom)",
                f"{size} is required, unless initFrom names a folder that has it",
                field=f"model.{size}",
            )
            for size in ("layers", "hiddenSize", "attentionHeads", "vocabularySize")
        ),
        Rule(
            "!has(self.initFrom) || !has(self.resumeFrom)",
            f"initFrom {{{_INIT_FROM}}} and resumeFrom are both set; the weights can come from only one of"
            " them",
            field="initFrom",
        ),
        Rule(
            "!has(self.model) || !has(self.model.resizeTokenEmbeddings) || !self.model.resizeTokenEmbeddings"
            " || has(self.initFrom)",
            "resizeTokenEmbeddings adds rows to the embeddings of initFrom, which is not set; remove it",
            field="model.resizeTokenEmbeddings",
        ),
        *(
            _of_stages(field, *stages_with(field))
            for field in (
                "data.mask",
                "data.overlong",
                "data.run",
                "training.neftune",
                "preference",
                "reward",
                "rollout",
            )
        ),
        forbidden_rule(
            "self.stage != 'dpo' || !has(self.data.mask)"
            " || (has(self.preference) && self.preference.loss == 'orpo' && self.data.mask != 'assistant')",
            "in stage dpo, data.mask is for loss orpo only: all, or completion as packed; remove data.mask"
            " {self.data.mask}",
            field="data.mask",
        ),
        Rule(
            "self.stage != 'dpo' || !has(self.preference) || self.preference.loss != 'kto'"
            " || self.training.globalBatchSize > 1",
            "globalBatchSize {self.training.globalBatchSize} has no second sample for the mismatched"
            " answers of loss kto; use 2 or more",
            field="training.globalBatchSize",
        ),
        forbidden_rule(
            "self.stage != 'dpo' || !has(self.data.overlong) || self.data.overlong != 'cut'",
            "data.overlong cut is for stage sft, since compared answers must be whole; use refuse or drop",
            field="data.overlong",
        ),
        Rule(
            f"{_NO_CONVERSATIONS} || !has(self.model) || has(self.initFrom) || {_ARCHITECTURE} == 'decoder'",
            "stage {self.stage} trains decoders, and model.architecture is"
            f" {{{_ARCHITECTURE}}}; change one of them",
            field="stage",
        ),
        *(
            forbidden_rule(
                f"{_NO_CONVERSATIONS} || {right}",
                f"stage {{self.stage}} uses samples as packed, {but}",
                field=field,
            )
            for field, right, but in (
                (
                    "data.masking",
                    "!has(self.data.masking)",
                    "and data.masking hides parts of text; remove it",
                ),
                (
                    "data.packing",
                    "!self.data.packing.crossDocumentAttention",
                    "which must not attend to each other; remove data.packing.crossDocumentAttention",
                ),
            )
        ),
        forbidden_rule(
            "!(self.stage in ['sft', 'dpo']) || self.training.loss.name == 'crossEntropy'",
            "stage {self.stage} uses samples as packed, with crossEntropy, and training.loss is"
            " {self.training.loss.name}; remove it",
            field="training.loss",
        ),
        *REWARD_RULES,
        *GRPO_RULES,
        *PPO_RULES,
        *GENERATE_RULES,
        Rule(
            f"!has(self.compute.processesPerNode) || ({_RANKS}) % ({_SLICE}) == 0",
            f"nodes x processesPerNode = {{{_RANKS}}} ranks cannot be divided into slices of"
            f" tensor x pipeline x context = {{{_SLICE}}}; change nodes or parallelism",
            field="compute.nodes",
        ),
        *(
            Rule(
                f"!has(self.model) || !has(self.model.{size}) || self.model.{size} % {_TENSOR} == 0",
                f"{size} {{self.model.{size}}} is not a multiple of parallelism.tensor {{{_TENSOR}}};"
                f" change one of them{remedy}",
                field=f"model.{size}",
            )
            for size, remedy in (
                ("attentionHeads", ""),
                ("feedForwardSize", ""),
                (
                    "vocabularySize",
                    "{has(self.initFrom) ? '; resizeTokenEmbeddings lets that of initFrom grow to a multiple'"
                    " : ''}",
                ),
            )
        ),
        Rule(
            "!has(self.model) || !has(self.model.keyValueHeads)"
            f" || self.model.keyValueHeads % {_TENSOR} == 0 || {_TENSOR} % self.model.keyValueHeads == 0",
            f"keyValueHeads {{self.model.keyValueHeads}} and parallelism.tensor {{{_TENSOR}}}:"
            " one must be a multiple of the other",
            field="model.keyValueHeads",
        ),
        Rule(
            f"!has(self.model) || self.model.contextLength % ({_SEQUENCE_PIECES}) == 0",
            "contextLength {self.model.contextLength} cannot be split into equal pieces for context"
            f" {{self.parallelism.context}} x tensor {{{_TENSOR}}}; use a multiple of {{{_SEQUENCE_PIECES}}}",
            field="model.contextLength",
        ),
        Rule(
            f"self.parallelism.context == 1 || !has(self.model) || {_ARCHITECTURE} != 'encoder-decoder'",
            "parallelism.context {self.parallelism.context} does not work with an encoder-decoder, whose"
            " relative bias depends on distances in whole sequences; use 1",
            field="parallelism.context",
        ),
        Rule(
            "!(self.parallelism.pipelineSchedule in ['ZBV', 'InterleavedZeroBubble']) || !has(self.model)"
            f" || {_ARCHITECTURE} != 'encoder-decoder'",
            "pipelineSchedule {self.parallelism.pipelineSchedule} cannot split the backward pass of an"
            " encoder-decoder, whose blocks share a relative bias; use GPipe, 1F1B or Interleaved1F1B",
            field="parallelism.pipelineSchedule",
        ),
        Rule(
            "self.parallelism.context == 1 || !has(self.model) || self.model.dropout.attention == 0.0",
            "parallelism.context {self.parallelism.context} leaves no rank with all attention weights of a"
            " query, to which dropout.attention {self.model.dropout.attention} applies; use context 1, or"
            " set it to 0",
            field="model.dropout.attention",
        ),
        Rule(
            f"!has(self.model) || !has(self.model.layers) || {_BLOCKS} >= {_STAGES}",
            f"layers {{{_BLOCKS}}} are fewer than the {{{_STAGES}}} stages of pipeline x"
            " virtualStages; each stage needs a layer",
            field="model.layers",
        ),
        Rule(
            "!has(self.training.tokens) || !has(self.model)"
            f" || self.training.schedule.warmupSteps <= {_STEPS}",
            "warmupSteps {self.training.schedule.warmupSteps} is beyond the end of training at tokens"
            f" {{self.training.tokens}}, which are {{{_STEPS}}} steps; lower it",
            field="training.schedule.warmupSteps",
        ),
        *(
            Rule(
                f"!has(self.data.masking) || self.data.masking.name != '{masking}'"
                f" || !has(self.model) || has(self.initFrom) || {_ARCHITECTURE} == '{architecture}'",
                f"masking {masking} is for model.architecture {architecture}, not for {{{_ARCHITECTURE}}};"
                " change one of them, or remove masking",
                field="data.masking",
            )
            for masking, architecture in (("mlm", "encoder"), ("span", "encoder-decoder"))
        ),
        *(immutable(field) for field in _NEVER),
        *(immutable(field, optional=True) for field in ("model", "initFrom", "resumeFrom", *_OF_STAGES)),
        *(immutable(field, **_WHILE_SUSPENDED) for field in _SUSPENDED_ONLY),
        *(immutable(field, optional=True, **_WHILE_SUSPENDED) for field in _SUSPENDED_ONLY_OPTIONAL),
    )


def _same_length(length: str) -> str:
    """Return CEL for an update that leaves `training.length` as it is.

    Progress may pass a length that was lowered a moment ago, and the status must still be able to report it.
    """
    new, old = f"self.spec.training.{length}", f"oldSelf.spec.training.{length}"
    return f"(has({new}) && has({old}) && {new} == {old})"


def _names_no_run(field: str) -> str:
    """Return CEL for a spec that names no other run in `field`."""
    parts = f"spec.{field}.run".split(".")
    paths = [".".join(parts[:length]) for length in range(2, len(parts) + 1)]
    return "(" + " || ".join(f"!has(self.{path})" for path in paths) + ")"


class TrainingRun(ApiModel):
    """A model, trained once: spec and status; metadata is Kubernetes'."""

    spec: Annotated[TrainingRunSpec, Field()]

    rules: ClassVar = (
        Rule(
            f"self.metadata.name.size() <= {RUN_NAME_LIMIT}",
            "name {self.metadata.name} has {self.metadata.name.size()} characters;"
            f" at most {RUN_NAME_LIMIT} are allowed, as pods are named after it",
            field="metadata",
        ),
        Rule(
            "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
            "name {self.metadata.name} must start with a letter and hold only a-z, 0-9 and -",
            field="metadata",
        ),
        *(
            Rule(
                f"{_same_length(length)} || !has(self.spec.training.{length})"
                " || !has(self.status) || !has(self.status.progress)"
                f" || self.spec.training.{length} >= self.status.progress.{done}",
                f"training.{length} {{self.spec.training.{length}}} is below the progress so far,"
                f" {{self.status.progress.{done}}}; raise it",
                field=f"spec.training.{length}",
            )
            for length, done in (("steps", "step"), ("tokens", "tokens"))
        ),
        *(
            Rule(
                f"{_names_no_run(field)} || self.spec.{field}.run.name != self.metadata.name",
                f"{field}.run names the run itself, {{self.metadata.name}}; name another one",
                field=f"spec.{field}.run",
            )
            for field in ReferenceField
        ),
        *BUDGET_RULES,
    )
