"""TrainingRun: one model, trained once, whatever happens on the way."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from footplate_contracts.names import RUN_NAME_LIMIT
from footplate_contracts.rules import Rule, only, refuse, says, unchanging
from footplate_contracts.v1alpha1.compute import Checkpoint, Compute, Resilience, ResumeFrom
from footplate_contracts.v1alpha1.data import Data, Validation
from footplate_contracts.v1alpha1.model import InitFrom, Model
from footplate_contracts.v1alpha1.pods import Trainer
from footplate_contracts.v1alpha1.training import Parallelism, Stage, Training
from footplate_contracts.v1alpha1.types import Label, Name, Part, Passthrough, Seconds

_WHILE_SUSPENDED = "oldSelf.suspend"
_SUSPEND_FIRST = " while the run is active; set spec.suspend to true first"

_RANKS = "self.compute.nodes * self.compute.processesPerNode"
_SLICE = "self.parallelism.tensor * self.parallelism.pipeline * self.parallelism.context"


class TrainingRunSpec(Part):
    """What should be trained, on what, for how long."""

    stage: Stage = Stage.PRETRAIN
    model: Model | None = None
    init_from: InitFrom | None = None
    data: Data
    validation: Validation | None = None
    training: Training
    parallelism: Parallelism = Parallelism()
    compute: Compute
    checkpoint: Checkpoint
    resume_from: ResumeFrom | None = None
    resilience: Resilience = Resilience()
    trainer: Trainer = Trainer()
    telemetry: Passthrough | None = None
    budget: Passthrough | None = None
    queue: Label | None = None
    priority_class_name: Name | None = None
    suspend: bool = False
    pod_retention_seconds: Seconds = Field(3600, description="how long ended pods stay for their logs")
    ttl_seconds_after_finished: Seconds | None = Field(
        None, description="delete the run itself so long after its end, as a Job's does"
    )

    rules: ClassVar = (
        Rule("has(self.model)", says("model is required")),
        *(
            refuse(field)
            for field in ("initFrom", "validation", "resumeFrom", "telemetry", "budget", "queue")
        ),
        only("stage", "pretrain"),
        Rule(
            f"!has(self.compute.processesPerNode) || ({_RANKS}) % ({_SLICE}) == 0",
            f"'nodes x processesPerNode = ' + string({_RANKS}) + ' ranks cannot be divided into slices of"
            f" tensor x pipeline x context = ' + string({_SLICE})",
        ),
        Rule(
            "!has(self.training.tokens) || !has(self.model) || self.training.schedule.warmupSteps"
            " * self.training.globalBatchSize * self.model.contextLength <= self.training.tokens"
            " + self.training.globalBatchSize * self.model.contextLength",
            "'training.schedule.warmupSteps ' + string(self.training.schedule.warmupSteps)"
            " + ' lies beyond the end at tokens ' + string(self.training.tokens)",
        ),
        *(unchanging(field) for field in ("stage", "data")),
        unchanging("model", optional=True),
        *(
            Rule(
                f"self.training.{field} == oldSelf.training.{field}",
                says(f"training.{field} cannot be changed; create another run instead"),
            )
            for field in (
                "seed",
                "optimizer",
                "globalBatchSize",
                "loss",
                "schedule",
                "precision",
                "deterministic",
            )
        ),
        Rule(
            "self.checkpoint.uri == oldSelf.checkpoint.uri",
            says("checkpoint.uri cannot be changed; create another run instead"),
        ),
        unchanging("parallelism", unless=_WHILE_SUSPENDED, remedy=_SUSPEND_FIRST),
        unchanging("priorityClassName", optional=True, unless=_WHILE_SUSPENDED, remedy=_SUSPEND_FIRST),
        Rule(
            f"{_WHILE_SUSPENDED} || self.training.microBatchSize == oldSelf.training.microBatchSize",
            says("training.microBatchSize cannot be changed" + _SUSPEND_FIRST),
        ),
        Rule(
            f"{_WHILE_SUSPENDED} || self.compute.profile == oldSelf.compute.profile",
            says("compute.profile cannot be changed" + _SUSPEND_FIRST),
        ),
        Rule(
            f"{_WHILE_SUSPENDED} || (has(self.compute.processesPerNode) == has(oldSelf.compute.processesPerNode)"
            " && (!has(self.compute.processesPerNode)"
            " || self.compute.processesPerNode == oldSelf.compute.processesPerNode))",
            says("compute.processesPerNode cannot be changed" + _SUSPEND_FIRST),
        ),
        Rule(
            f"{_WHILE_SUSPENDED} || self.compute.nodes == oldSelf.compute.nodes",
            says("compute.nodes cannot be changed" + _SUSPEND_FIRST),
        ),
        unchanging("trainer", unless=_WHILE_SUSPENDED, remedy=_SUSPEND_FIRST),
    )


class TrainingRun(Part):
    """One model, trained once: spec and status; metadata is Kubernetes'."""

    spec: Annotated[TrainingRunSpec, Field()]

    rules: ClassVar = (
        Rule(
            f"self.metadata.name.size() <= {RUN_NAME_LIMIT}",
            f"'name ' + self.metadata.name + ' has ' + string(self.metadata.name.size())"
            f" + ' characters; at most {RUN_NAME_LIMIT} are allowed, as pods are named after it'",
        ),
        Rule(
            "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
            "'name ' + self.metadata.name + ' must start with a letter and hold only a-z, 0-9 and -'",
        ),
        Rule(
            "!has(self.spec.training.steps) || !has(self.status) || !has(self.status.progress)"
            " || self.spec.training.steps >= self.status.progress.step",
            "'training.steps ' + string(self.spec.training.steps) + ' lies below the progress so far, step '"
            " + string(self.status.progress.step)",
        ),
    )
