"""`spec.parallelism`: division of the work among ranks.

Separate from `spec.training`, since a coordinator computes with this and with nothing there.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from footplate_contracts.rules import Rule
from footplate_contracts.v1alpha1.types import ApiModel


class Sharding(StrEnum):
    """State that data-parallel ranks shard among themselves."""

    NONE = "none"
    ZERO_1 = "zero1"
    FULL = "full"
    HYBRID = "hybrid"


class Offload(StrEnum):
    """Memory of a rank's shards of parameters, gradients and optimizer state between their uses."""

    NONE = "none"
    CPU = "cpu"


class PipelineSchedule(StrEnum):
    """Order of micro-batches in a pipeline."""

    GPIPE = "GPipe"
    ONE_FORWARD_ONE_BACKWARD = "1F1B"
    INTERLEAVED = "Interleaved1F1B"
    INTERLEAVED_ZERO_BUBBLE = "InterleavedZeroBubble"
    ZBV = "ZBV"


class Parallelism(ApiModel):
    """Degrees of each axis; data parallelism has the remaining ranks."""

    tensor: Annotated[int, Field(ge=1, le=1024)] = Field(1, description="ranks that share each matrix")
    pipeline: Annotated[int, Field(ge=1, le=1024)] = Field(1, description="ranks that share the layers")
    virtual_stages: Annotated[int, Field(ge=1, le=64)] = Field(1, description="pipeline stages per rank")
    context: Annotated[int, Field(ge=1, le=1024)] = Field(1, description="ranks that share each sequence")
    sharding: Sharding = Sharding.FULL
    replicas: Annotated[int, Field(ge=1, le=65_536)] = Field(1, description="replicas in hybrid sharding")
    pipeline_schedule: PipelineSchedule = PipelineSchedule.ONE_FORWARD_ONE_BACKWARD
    offload: Offload = Field(
        Offload.NONE,
        description="cpu: shards of parameters, gradients and optimizer state stay in host memory, where"
        " the optimizer runs",
    )

    rules: ClassVar = (
        Rule(
            "self.replicas == 1 || self.sharding == 'hybrid'",
            "replicas {self.replicas} needs sharding hybrid, not {self.sharding}; change one of them",
            field="replicas",
        ),
        Rule(
            "self.virtualStages == 1 || self.pipeline > 1",
            "virtualStages {self.virtualStages} needs a pipeline of several ranks, not of {self.pipeline}",
            field="virtualStages",
        ),
        Rule(
            "self.virtualStages == 1 || !(self.pipelineSchedule in ['GPipe', '1F1B'])",
            "virtualStages {self.virtualStages}: {self.pipelineSchedule} has one stage on each rank;"
            " use Interleaved1F1B, InterleavedZeroBubble or ZBV",
            field="virtualStages",
        ),
        Rule(
            "self.pipelineSchedule != 'ZBV' || self.pipeline == 1 || self.virtualStages == 2",
            "virtualStages {self.virtualStages}: ZBV has 2 stages on each rank",
            field="virtualStages",
        ),
    )
