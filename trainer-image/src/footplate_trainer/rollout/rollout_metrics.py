"""Adds a rollout's metrics, some of its answers, and warnings to the rows of its steps."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from footplate_trainer.callbacks.metric_rows import ROLLOUT_TOKENS
from footplate_trainer.loop.callbacks import Callback, TrainedStep
from footplate_trainer.parallel.world import DistributedContext
from footplate_trainer.rollout.batches import RolloutBatches
from footplate_trainer.rollout.row_samples import count_generated_tokens, select_shown_samples

FAR: Final = 2.0  # times the target of KL
HALF: Final = 0.5  # of the entropy of the first rollout
_LAST: Final = 8  # rollouts over which rewards are compared
_DEVIATIONS: Final = 0.5  # by which one rises and the other falls, of what it varied by before


@dataclass
class RolloutMonitor:
    """A monitor of one generation's rollouts; each warning is repeated only after it was over."""

    target: float | None  # of the KL from the reference, per answer
    watched: frozenset[str]  # names of rewards of weight 0
    _entropy: float | None = None  # of the first: no checkpoint keeps that of an earlier generation
    _told: set[str] = field(default_factory=set)
    _seen: list[Mapping[str, float]] = field(default_factory=list)

    def check(self, step: int, values: Mapping[str, float]) -> list[str]:
        """Return new warnings about `step`, the first of a rollout, whose row has `values`."""
        self._seen = [*self._seen[1 - 2 * _LAST :], values]
        found = dict(self._found(values))
        new = [f"step {step}: {text}" for name, text in found.items() if name not in self._told]
        self._told = set(found)
        return new

    def _found(self, values: Mapping[str, float]) -> Iterator[tuple[str, str]]:
        divergence, target = values.get("kl/answer"), self.target
        if divergence is not None and target is not None and divergence > FAR * target:
            yield "kl", f"kl/answer is {divergence:.4g}, above twice its target {target:g}"
        entropy = values.get("policy/entropy")
        if entropy is not None:
            self._entropy = entropy if self._entropy is None else self._entropy
            if entropy < HALF * self._entropy:
                first = f"the {self._entropy:.4g} at this start"
                yield "entropy", f"policy/entropy is {entropy:.4g}, less than half of {first}"
        if values.get("groups/degenerate") == 1:
            yield (
                "degenerate",
                "groups/degenerate is 1: rewards differ in no group, so the policy learns nothing",
            )
        for name in sorted(self.watched):
            if self._risen("reward/sum") > _DEVIATIONS and self._risen(f"rewards/{name}") < -_DEVIATIONS:
                now = values[f"rewards/{name}"]
                yield (
                    name,
                    f"rewards/{name}, which has no weight, has fallen to {now:.4g} while reward/sum has risen"
                    f" to {values['reward/sum']:.4g}",
                )

    def _risen(self, name: str) -> float:
        """Return how many deviations of earlier rollouts the latest rollouts' mean is above theirs."""
        told = [seen[name] for seen in self._seen if name in seen]
        if len(told) < 2 * _LAST or name not in self._seen[-1]:
            return 0.0
        before, last = told[:_LAST], told[-_LAST:]
        deviation = statistics.stdev(before)
        return (statistics.fmean(last) - statistics.fmean(before)) / max(deviation, 1e-12)


_log = logging.getLogger(__name__)


@dataclass
class RolloutMetrics(Callback):
    """A callback that adds a rollout's numbers and some of its answers to each of its steps' rows."""

    batches: RolloutBatches
    world: DistributedContext
    watch: RolloutMonitor

    def after_step(self, step: TrainedStep) -> None:
        current = self.batches.current
        assert current is not None, "a step has a batch"
        step.columns.update(current.learnt.values)
        if self.world.rank != 0:
            return
        batches, keys = self.batches, [self.batches.key(int(number)) for number in step.batch.sample_ids]
        gathered, learnt = current.gathered, current.learnt
        step.samples.extend(
            select_shown_samples(
                step.number, keys, gathered, learnt, batches.build_reward_input, batches.prompt_number
            )
        )
        if step.number == current.begin.step + 1:
            if (tokens := count_generated_tokens(gathered)) is not None:
                step.columns[ROLLOUT_TOKENS] = tokens
            for warning in self.watch.check(step.number, step.columns.values_by_name()):
                _log.warning(warning)
