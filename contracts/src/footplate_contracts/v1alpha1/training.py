"""`spec.stage` and `spec.training`: length, loss, optimizer and precision."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from footplate_contracts.rules import Rule, allowed_when, forbidden_rule, positive, required_rule
from footplate_contracts.v1alpha1.types import ApiModel, Count, Probability, Whole


class Stage(StrEnum):
    """Stage of the model's life cycle."""

    PRETRAIN = "pretrain"
    SFT = "sft"
    REWARD = "reward"
    DPO = "dpo"
    PPO = "ppo"
    GRPO = "grpo"
    GENERATE = "generate"


class LossName(StrEnum):
    """The losses that have a name; any other is package.module:function."""

    CROSS_ENTROPY = "crossEntropy"
    MSE = "mse"
    CONTRASTIVE = "contrastive"


class Loss(ApiModel):
    """The loss; `package.module:function` names a user's own."""

    name: Annotated[str, Field(min_length=1, max_length=256)] = Field(
        "crossEntropy", description="crossEntropy, mse, contrastive, or package.module:function"
    )
    label_smoothing: Probability = Field(0.0, description="probability mass to spread over all tokens")
    z_loss: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.0, description="weight of the squared log-normaliser"
    )

    temperature: Annotated[float, Field(ge=0.0, le=1000.0)] | None = Field(
        None, description="contrastive: divisor of cosine similarities; default: 0.05"
    )

    rules: ClassVar = (
        Rule(
            f"self.name in [{', '.join(repr(str(name)) for name in LossName)}]"
            " || self.name.matches('^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$')",
            f"name {{self.name}} is neither {', '.join(LossName)} nor of the form package.module:function",
            field="name",
        ),
        *(
            forbidden_rule(
                f"self.{field} == 0.0 || self.name == 'crossEntropy'",
                f"{field} is a field of crossEntropy, and name is {{self.name}}; remove it",
                field=field,
            )
            for field in ("labelSmoothing", "zLoss")
        ),
        forbidden_rule(
            "!has(self.temperature) || self.name == 'contrastive'",
            "temperature is a field of contrastive, and name is {self.name}; remove it",
            field="temperature",
        ),
        Rule(
            "!has(self.temperature) || self.temperature > 0.0",
            "temperature must be above 0, not {self.temperature}",
            field="temperature",
        ),
    )


class OptimizerName(StrEnum):
    """The optimizer."""

    SGD = "sgd"
    ADAM = "adam"
    ADAMW = "adamw"
    ADAFACTOR = "adafactor"


class Optimizer(ApiModel):
    """Optimizer; decay applies to matrices, embeddings among them, and not to norms and biases."""

    name: OptimizerName = OptimizerName.ADAMW
    learning_rate: Annotated[float, Field(ge=0.0, le=1000.0)] = Field(description="peak, after warm-up")
    betas: Annotated[list[Probability], Field(min_length=2, max_length=2)] | None = Field(
        None, description="decay rates of Adam's first and second moment; default: 0.9 and 0.95"
    )
    epsilon: Annotated[float, Field(ge=0.0, le=1.0)] | None = Field(
        None, description="number added to the root of Adam's second moment; default: 1e-8"
    )
    momentum: Probability | None = Field(None, description="sgd: momentum; default: 0")
    nesterov: bool | None = Field(None, description="sgd: true: Nesterov momentum; default: false")
    weight_decay: Annotated[float, Field(ge=0.0, le=100.0)] | None = Field(
        None,
        description="weight decay, decoupled from the gradient with adamw and adafactor, added to it with"
        " sgd and adam; default: 0.1 with adamw, otherwise 0",
    )

    rules: ClassVar = (
        positive("learningRate"),
        allowed_when("betas", "name", OptimizerName.ADAM, OptimizerName.ADAMW),
        allowed_when("epsilon", "name", OptimizerName.ADAM, OptimizerName.ADAMW),
        allowed_when("momentum", "name", OptimizerName.SGD),
        allowed_when("nesterov", "name", OptimizerName.SGD),
        Rule(
            "!has(self.betas) || self.betas.all(beta, beta < 1.0)",
            "betas {self.betas[0]} and {self.betas[1]} must be below 1: at 1 a moment never changes",
            field="betas",
        ),
        Rule(
            "!has(self.nesterov) || !self.nesterov || (has(self.momentum) && self.momentum > 0.0)",
            "nesterov needs a momentum above 0; set momentum, or remove nesterov",
            field="nesterov",
        ),
    )


class ScheduleName(StrEnum):
    """Shape of the learning rate after warm-up."""

    CONSTANT = "constant"
    LINEAR = "linear"
    COSINE = "cosine"
    WSD = "wsd"


class Schedule(ApiModel):
    """Linear warm-up, then the named shape down to minimumRatio of the peak."""

    name: ScheduleName = ScheduleName.COSINE
    warmup_steps: Whole = Field(0, description="steps of the linear rise from 0")
    minimum_ratio: Probability = Field(0.1, description="final learning rate, as a share of the peak")
    decay_share: Probability | None = Field(
        None, description="wsd: share of all steps in the final decay; default: 0.2"
    )

    rules: ClassVar = (
        forbidden_rule(
            "!has(self.decayShare) || self.name == 'wsd'",
            "decayShare is a field of wsd, and name is {self.name}; remove it",
            field="decayShare",
        ),
    )


class Precision(StrEnum):
    """Number format; bf16 means fp32 master weights, bf16 compute, fp32 reduction."""

    FP32 = "fp32"
    BF16 = "bf16"


class ActivationCheckpointing(StrEnum):
    """Activations to recompute in the backward pass."""

    NONE = "none"
    SELECTIVE = "selective"
    FULL = "full"


class Training(ApiModel):
    """Length, batch and optimisation; batch sizes in sequences."""

    tokens: Annotated[int, Field(ge=1, le=1_000_000_000_000_000)] | None = Field(
        None, description="length in tokens, instead of steps; may change while the run trains"
    )
    steps: Count | None = Field(
        None, description="length in optimizer steps; may change while the run trains"
    )
    global_batch_size: Count = Field(
        description="sequences per optimizer step, regardless of the number of processes"
    )
    micro_batch_size: Count = Field(1, description="sequences that a process computes at once")
    loss: Loss = Loss()
    optimizer: Optimizer
    schedule: Schedule = Schedule()
    gradient_clip_norm: Annotated[float, Field(ge=0.0, le=1e9)] = Field(1.0, description="0: no clipping")
    precision: Precision = Precision.FP32
    activation_checkpointing: ActivationCheckpointing = ActivationCheckpointing.NONE
    compile: bool = Field(False, description="true: use torch.compile")
    log_every_steps: Count = Field(10, description="steps between log lines")
    seed: Annotated[int, Field(ge=0, le=4_294_967_295)] = Field(
        0, description="seed of initial weights and dropout"
    )
    deterministic: bool = Field(False, description="true: deterministic kernels only; slower")
    neftune: Annotated[float, Field(ge=0.0, le=1000.0)] | None = Field(
        None,
        description="stage sft: alpha of uniform noise on embeddings, within alpha / root of (the"
        " document's length x hiddenSize); default: no noise",
    )

    rules: ClassVar = (
        Rule(
            "!has(self.tokens) || !has(self.steps)",
            "tokens {self.tokens} and steps {self.steps} are both set; set one of them",
            field="tokens",
        ),
        required_rule(
            "has(self.tokens) || has(self.steps)",
            "the length of the training is missing; set steps or tokens",
            field="steps",
        ),
        Rule(
            "self.globalBatchSize % self.microBatchSize == 0",
            "globalBatchSize {self.globalBatchSize} is not a multiple of microBatchSize"
            " {self.microBatchSize}; every micro-batch of a step holds the same number of sequences",
            field="globalBatchSize",
        ),
        Rule(
            "!has(self.steps) || self.schedule.warmupSteps <= self.steps",
            "warmupSteps {self.schedule.warmupSteps} is beyond the end of training at steps {self.steps};"
            " lower it",
            field="schedule.warmupSteps",
        ),
    )
