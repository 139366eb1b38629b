"""`spec.resilience`: restart limits, deadlines and bounds of a hang.

Separate from `spec.compute`, since agent and coordinator read only `hang` of it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from pydantic import Field

from footplate_contracts.names import Cause
from footplate_contracts.rules import Rule, unsupported_field
from footplate_contracts.v1alpha1.types import ApiModel, Count, Label, Seconds

_Bound = Annotated[int, Field(ge=1, le=31_536_000)]

ROLLOUT_SECONDS: Final = 1800
SCORING_SECONDS: Final = 3600  # a reward may be computed elsewhere, and slowly


class Hang(ApiModel):
    """Bounds of a standstill: max(factor x P99 of step time, floor); ten times that for data.

    The phases around a rank's steps have bounds of their own, on the time in which no rank progresses.
    Rollout and scoring progress with each token and sample, and so may last for any time.
    """

    factor: Annotated[float, Field(ge=1.0, le=1000.0)] = Field(
        3.0, description="multiple of the 99th percentile of step time"
    )
    floor_seconds: Seconds = Field(60, description="lower limit of the bound, in seconds")
    loading_seconds: _Bound = Field(
        1800, description="limit while a rank starts, joins the others, loads the model and opens the data"
    )
    first_step_seconds: _Bound = Field(
        1800, description="limit until a rank finishes its first step, which may compile"
    )
    checkpoint_seconds: _Bound = Field(
        1800, description="limit while training waits for a checkpoint, for a diagnosis, or for ranks to end"
    )
    validation_seconds: _Bound = Field(3600, description="limit while a rank validates")
    # Not filled in by the API server: an operator of an earlier release, which reads what it wrote, knows
    # neither. What is absent is filled in by whoever looks for a hang (HangTimeouts.seconds).
    rollout_seconds: _Bound | None = Field(
        None, description=f"limit while ranks sample and no rank finishes a token; absent: {ROLLOUT_SECONDS}"
    )
    scoring_seconds: _Bound | None = Field(
        None, description=f"limit while ranks score samples and none is finished; absent: {SCORING_SECONDS}"
    )


class Straggler(ApiModel):
    """Threshold of a slow rank: above ratio x median for so many steps."""

    ratio: Annotated[float, Field(ge=1.0, le=1000.0)] = Field(1.5, description="times all ranks' median")
    steps: Count = Field(20, description="number of such steps")


class Preflight(ApiModel):
    """Node checks before the first step."""

    enabled: bool = Field(False, description="true: check nodes")


_CAUSES = [cause.value for cause in Cause]


class Resilience(ApiModel):
    """Restart limits of the failure policy, and deadlines."""

    restart_limits: Annotated[dict[str, Annotated[int, Field(ge=0, le=1_000_000)]], Field(max_length=16)] = (
        Field(
            default_factory=dict,
            description="restarts allowed by cause of failure; overrides the defaults in docs/failures.md",
        )
    )
    startup_deadline_seconds: Annotated[int, Field(ge=1, le=604_800)] = Field(
        1200, description="seconds from the binding of all workers to nodes to the first step"
    )
    gather_deadline_seconds: Annotated[int, Field(ge=1, le=604_800)] = Field(
        1800,
        description="seconds to hold nodes while some workers have none; the run then releases them and"
        " retries when there is room. At most 60 s before the first step and after a lost turn",
    )
    hang: Hang | None = Field(
        None, description="bounds after which hanging ranks are restarted; default: its fields' defaults"
    )
    straggler: Straggler | None = None
    preflight: Preflight | None = None
    exclude_nodes: Annotated[list[Label], Field(max_length=256)] = Field(
        [], description="names of nodes that get no workers"
    )

    rules: ClassVar = (
        Rule(
            f"self.restartLimits.all(cause, cause in {_CAUSES})",
            f"restartLimits has no cause {{self.restartLimits.filter(cause, !(cause in {_CAUSES}))}}; causes"
            f" are {', '.join(Cause)}",
            field="restartLimits",
        ),
        unsupported_field("straggler"),
        unsupported_field("preflight"),
    )
