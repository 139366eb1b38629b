"""Columns of the metric history, which are listed nowhere else.

A stage's own numbers (rewards, divergences, scores) are no columns: they travel and are stored as `values`,
under names that no program has to know beforehand.

Each field of StepMetrics makes a column of the API's table, of its responses and of its queries, a sample
of a Prometheus gauge and a scalar of TensorBoard. A new optional field needs a migration of the database
beside it, and its row in docs/observability.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Self, get_args

from pydantic import Field

from footplate_contracts.base import WireMessage

Scalar = type[float] | type[int] | type[str]

VALUES: Final = 64  # further numbers, the most a row has


@dataclass(frozen=True)
class GaugeFamily:
    """Prometheus gauges with a sample for each run, or for each run and value of `label`."""

    name: str  # follows footplate_run_
    help: str
    label: str | None = None


@dataclass(frozen=True)
class MetricExport:
    """Metadata of a field: the TensorBoard tag and the Prometheus gauge of its numbers."""

    tag: str  # of TensorBoard; what stands before the slash is a group of charts
    gauge: GaugeFamily | None = None
    value: str = ""  # of the gauge's label


_SPEED: Final = GaugeFamily("tokens_per_second", "Valid tokens per second in the newest step.")
_PARTS: Final = GaugeFamily(
    "step_breakdown_seconds", "Seconds of the newest step by what they were spent on.", label="part"
)
_MFU: Final = GaugeFamily(
    "mfu_ratio",
    "Model FLOPs over the devices' peak, by convention for attention FLOPs.",
    label="convention",
)


class StepMetrics(WireMessage):
    """A row of the metric history: measurements of global rank 0 at one step.

    Values that were not measured are absent. The seconds are parts of `step_seconds`: time
    after a row is written counts in the next one.
    """

    step: int
    time: float = Field(description="seconds since the Unix epoch")
    loss: Annotated[float, MetricExport("training/loss")] = Field(
        description="mean loss per valid token of the global batch, before the update"
    )
    gradient_norm: Annotated[
        float,
        MetricExport(
            "training/gradient_norm",
            GaugeFamily("gradient_norm", "Gradient norm of the newest step before clipping."),
        ),
    ] = Field(description="global gradient norm before clipping")
    learning_rate: Annotated[
        float,
        MetricExport(
            "training/learning_rate", GaugeFamily("learning_rate", "Learning rate of the newest step.")
        ),
    ]
    tokens: Annotated[
        int, MetricExport("training/tokens", GaugeFamily("tokens", "Valid tokens trained on."))
    ] = Field(description="valid tokens since step 0")
    tokens_per_second: Annotated[float, MetricExport("speed/tokens_per_second", _SPEED)] = Field(
        description="valid tokens of the step per second, without rollout and scoring"
    )
    sample_digest: str = Field(
        max_length=64,
        description="first 16 hex digits of SHA-256 over the step's global sample ids, in order, as"
        " little-endian int64",
    )
    step_seconds: Annotated[
        float | None,
        MetricExport(
            "seconds/step", GaugeFamily("step_seconds", "Seconds between the newest two rows of the history.")
        ),
    ] = Field(default=None, description="seconds since the previous row")
    data_seconds: Annotated[float | None, MetricExport("seconds/data", _PARTS, "data")] = Field(
        default=None, description="seconds of the step spent waiting for data"
    )
    compute_seconds: Annotated[float | None, MetricExport("seconds/compute", _PARTS, "compute")] = Field(
        default=None, description="forward and backward pass, with the collectives inside them"
    )
    communication_seconds: Annotated[
        float | None, MetricExport("seconds/communication", _PARTS, "communication")
    ] = Field(
        default=None, description="waiting for all ranks at the step's end; absent where not measurable"
    )
    optimizer_seconds: Annotated[float | None, MetricExport("seconds/optimizer", _PARTS, "optimizer")] = (
        Field(default=None, description="clipping and optimizer update")
    )
    checkpoint_seconds: Annotated[float | None, MetricExport("seconds/checkpoint", _PARTS, "checkpoint")] = (
        Field(default=None, description="training blocked by a checkpoint")
    )
    validation_seconds: Annotated[float | None, MetricExport("seconds/validation", _PARTS, "validation")] = (
        Field(default=None, description="computing the validation loss")
    )
    rollout_seconds: Annotated[float | None, MetricExport("seconds/rollout", _PARTS, "rollout")] = Field(
        default=None, description="sampling in the rollout before this step"
    )
    scoring_seconds: Annotated[float | None, MetricExport("seconds/scoring", _PARTS, "scoring")] = Field(
        default=None, description="scoring the samples of that rollout"
    )
    mfu: Annotated[float | None, MetricExport("speed/mfu", _MFU, "full")] = Field(
        default=None, description="model FLOPs utilization (ratio), full attention, as PaLM counts"
    )
    mfu_causal: Annotated[float | None, MetricExport("speed/mfu_causal", _MFU, "causal")] = Field(
        default=None, description="model FLOPs utilization (ratio), causal attention, as Megatron counts"
    )
    memory_bytes: Annotated[
        int | None, MetricExport("memory/bytes", GaugeFamily("memory_bytes", "Peak memory of rank 0."))
    ] = Field(default=None, description="peak memory of rank 0: device memory, or resident memory on CPU")
    validation_loss: Annotated[float | None, MetricExport("validation/loss")] = Field(
        default=None, description="loss per token of the held-out batches after this step's update"
    )
    checkpoints_left_out: Annotated[
        int | None,
        MetricExport(
            "checkpoints/left_out",
            GaugeFamily("checkpoints_skipped", "Checkpoints not written since the last durable one."),
        ),
    ] = Field(default=None, description="skipped on write errors since the last durable one; absent if none")
    values: dict[Annotated[str, Field(max_length=63)], float] | None = Field(
        default=None,
        max_length=VALUES,
        description="further numbers by name, at most 64, such as reward or kl",
    )

    @classmethod
    def of_columns(cls, **measured: Any) -> Self:
        """Build a row from measurements by field name; ValueError for an unknown name.

        A reader ignores fields of a newer release. A program that measures would lose a number in that way
        without notice.
        """
        return cls.model_validate(measured, extra="forbid", by_name=True, by_alias=False)


VALUE_NAMES: Final = 1000  # the most a run has
VALUE_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_./-]{0,62}")


def values_error(values: Mapping[str, float]) -> str | None:
    """Return the error in the `values` of a row, and what would be right; None if there is none."""
    if len(values) > VALUES:
        return f"must be at most {VALUES} numbers, not {len(values)}"
    for name in values:
        if not VALUE_NAME.fullmatch(name):
            return (
                f"{name[:80]!r} must be a name of at most 63 letters, digits and _ . / - that begins with a"
                " letter"
            )
        if name in _ALIASES:
            return f"{name!r} is a column of every row; use another name"
    return None


@dataclass(frozen=True)
class MetricColumn:
    """A field of StepMetrics, with the details that storage and exporters need."""

    name: str  # in Python, and in the database
    alias: str  # in JSON
    type: Scalar
    optional: bool  # whether a step may leave it unmeasured
    description: str | None = None
    shown: MetricExport | None = None


def _columns() -> tuple[MetricColumn, ...]:
    found = []
    for name, field in StepMetrics.model_fields.items():
        if name == "values":
            continue
        types = get_args(field.annotation) or (field.annotation,)
        found.append(
            MetricColumn(
                name=name,
                alias=field.alias or name,
                type=next(scalar for scalar in (float, int, str) if scalar in types),
                optional=not field.is_required(),
                description=field.description,
                shown=next((shown for shown in field.metadata if isinstance(shown, MetricExport)), None),
            )
        )
    return tuple(found)


COLUMNS: Final = _columns()
_ALIASES: Final = frozenset({"generation", *(column.alias for column in COLUMNS)})
