"""Limits of a run: its length and checkpoint intervals, which may change while it trains.

Each rank receives new limits from its agent at a moment of its own. So the rank sends
them with the next step, all ranks apply the newest ones when that step is done, and the
next step is the first under them on every rank. Without an agent the limits of the
RunConfig stay.
"""

from __future__ import annotations

import logging
from types import NoneType
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from footplate_contracts.directives import NumberedLimits, limit_values, promoted_steps, spec_fields
from footplate_contracts.runconfig import RunConfig
from footplate_planning.config import total_steps
from footplate_trainer.optim.schedule import learning_rate
from footplate_trainer.parallel import object_collectives
from footplate_trainer.parallel.world import DistributedContext

_log = logging.getLogger(__name__)


class RunLimits:
    """The limits in force here, and `config` as if the run had been admitted with them."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.in_force = initial_limits(config)
        self._most: int | None = None

    @property
    def steps(self) -> int:
        """The last step."""
        return self.in_force.steps

    @property
    def every_steps(self) -> int:
        """Steps between checkpoints."""
        return self.in_force.every_steps

    @property
    def kept_steps(self) -> frozenset[int]:
        """Steps whose checkpoints stay whatever their age."""
        return frozenset(self.in_force.kept_steps or ())

    def rate(self, step: int) -> float:
        """The learning rate of update number `step`, from 1."""
        training = self.config.training
        peak = training.optimizer.learning_rate
        return learning_rate(step, steps=self.steps, peak=peak, schedule=training.schedule)

    def set_maximum(self, most: int) -> None:
        """Cap the length of the run at `most` steps, whatever limits arrive later."""
        self._most = most
        self.apply(self.in_force, 0)

    def newer_limits(self, told: NumberedLimits | None) -> NumberedLimits:
        """Return `told`, or the limits in force if those are newer or `told` is None."""
        return told if told is not None and told.is_newer_than(self.in_force) else self.in_force

    def apply_newest(self, told: NumberedLimits | None, world: DistributedContext, done: int) -> bool:
        """`apply` the newest limits that any rank has been told. Collective."""
        known = object_collectives.all_gather(self.newer_limits(told), world.everybody)
        return self.apply(max(known, key=lambda limits: (limits.epoch, limits.number)), done)

    def apply(self, told: NumberedLimits, done: int) -> bool:
        """Apply `told` from step `done` + 1 on; return whether that changes anything.

        A run cannot end in its past: where `told` has fewer steps than are done, the
        length stays as it was. The coordinator sees so, and says it. Nor does it end
        beyond the last step that there is.
        """
        before = self.in_force
        steps = told.steps if told.steps >= done else before.steps
        if self._most is not None and steps > self._most:
            _log.warning("ignoring the request for %d steps; the last step is %d", steps, self._most)
            steps = self._most
        self.in_force = told.model_copy(update={"steps": steps})
        self.config = config_with_limits(self.config, self.in_force)
        return _without_number(self.in_force) != _without_number(before)

    def __str__(self) -> str:
        kept = f"keeping {self.in_force.keep_last}"
        if self.in_force.keep_every_steps:
            kept += f" and one every {self.in_force.keep_every_steps} steps"
        if self.in_force.kept_steps:
            kept += f" and steps {', '.join(map(str, self.in_force.kept_steps))}"
        return f"{self.steps} steps, a checkpoint every {self.every_steps}, {kept}"


def initial_limits(config: RunConfig) -> NumberedLimits:
    """Return the limits of `config`, older than any that a coordinator sends."""
    return NumberedLimits(
        steps=total_steps(config), kept_steps=promoted_steps(config.checkpoint), **limit_values(config)
    )


def config_with_limits(config: RunConfig, limits: NumberedLimits) -> RunConfig:
    """Return `config` as if it had set `limits`; marks, which change nothing that is computed, are left out.

    A limit that an earlier operator does not send leaves the RunConfig's own value where the field is not
    optional.
    """
    if config.training.steps != limits.steps:
        config = _with(config, "training", {"steps": limits.steps, "tokens": None})
    for name, field in spec_fields(type(limits)).items():
        config = _with(config, field.section, {field.field: getattr(limits, name)})
    return config


def _with(config: RunConfig, section: str, update: dict[str, object]) -> RunConfig:
    """Return `config` with other fields in a section; without the section there is nothing to limit."""
    part: BaseModel | None = getattr(config, section)
    if part is None:
        return config
    fields = type(part).model_fields
    update = {
        name: value for name, value in update.items() if value is not None or _is_optional(fields[name])
    }
    return config.model_copy(update={section: part.model_copy(update=update)})


def _is_optional(field: FieldInfo) -> bool:
    return NoneType in get_args(field.annotation)


def _without_number(limits: NumberedLimits) -> dict[str, object]:
    return limits.model_dump(exclude={"epoch", "number"})
