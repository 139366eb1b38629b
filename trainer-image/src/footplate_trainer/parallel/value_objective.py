"""Values of positions, from a head of one output: collected, and trained; on any layout.

Only positions whose label counts have a value; their token does not matter. Context ranks have some
positions of each row, and each computes the loss of its own. Every tensor rank computes the loss of all
positions of its rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from torch import Tensor
from torch.nn import functional

from footplate_trainer.model.head_chunks import IGNORED, VocabularyShard
from footplate_trainer.model.inputs import Targets
from footplate_trainer.model.metric_sums import Counts, MetricSums
from footplate_trainer.model.objectives.value import clipped_value_loss
from footplate_trainer.parallel.loss_objective import row_positions
from footplate_trainer.parallel.objective import Collector, GlobalBatch, Objective
from footplate_trainer.parallel.stage_module import Criterion

# What the data says of a place, fp32: the value there when the rollout began, and what was gained from there.
OLD_VALUE: Final = "value"
RETURN: Final = "return"
PLACES: Final = "tokens"  # among the counts of a step

LOSS: Final = "value/loss"
CLIPPED: Final = "value/clipped"


@dataclass(frozen=True)
class ClippedValues(Objective):
    """Value loss: weight x the mean over positions of max((V - R)^2, (clip(V, V_old ± clip) - R)^2) / 2."""

    clip: float
    weight: float

    @property
    def names(self) -> tuple[str, ...]:
        return (LOSS, CLIPPED)

    def divisor(self, counts: Counts) -> Tensor:
        return counts[PLACES].clamp(min=1)

    def build_criterion(self, batch: GlobalBatch) -> Criterion:
        return _Valuing(self, batch.metric_sums)

    def loss(self, values: Tensor, said: Mapping[str, Tensor], metric_sums: MetricSums) -> Tensor:
        """Return the sum over `values` [positions], against the data's numbers `said`: fp64 scalar."""
        old, returns = said[OLD_VALUE], said[RETURN]
        losses = clipped_value_loss(values, old, returns, self.clip).double()
        metric_sums.add(LOSS, losses.sum(), losses.numel())
        metric_sums.add(CLIPPED, ((values - old).abs() > self.clip).sum(), losses.numel())
        return self.weight * losses.sum()


def value_collector() -> Collector:
    """Return a collector of the value at each of this rank's positions: fp32 [1, n, length]."""

    def measure(
        hidden: Tensor, head: Tensor, targets: Targets, *, vocabulary: VocabularyShard | None = None
    ) -> Tensor:
        return functional.linear(hidden.float(), head.float()).squeeze(-1)[None]

    return Collector(measure)


@dataclass(frozen=True)
class _Valuing:
    """The criterion of ClippedValues."""

    objective: ClippedValues
    metric_sums: MetricSums

    def __call__(
        self, hidden: Tensor, head: Tensor, targets: Targets, *, vocabulary: VocabularyShard | None = None
    ) -> Tensor:
        here = (targets.labels != IGNORED).flatten().nonzero().squeeze(1)
        places = row_positions(targets, here)
        said = {name: numbers.flatten()[places] for name, numbers in targets.token_values.items()}
        values = functional.linear(hidden.flatten(0, 1)[here].float(), head.float()).squeeze(1)
        loss = self.objective.loss(values, said, self.metric_sums)
        # Tensor ranks add their gradients up, and each of them has computed all.
        ranks = 1 if vocabulary is None else vocabulary.ranks
        return loss.detach() + (loss - loss.detach()) / ranks
