"""Reference model and value model of a run, and the ranks' copies of them. Pure."""

from __future__ import annotations

from enum import StrEnum

from footplate_contracts.runconfig import RunConfig
from footplate_contracts.stages import STAGES
from footplate_contracts.v1alpha1.references import ReferenceModel


class ReferenceKind(StrEnum):
    """Location of a reference's weights."""

    NONE = "none"
    ADAPTERS_OFF = "adaptersOff"  # in the trained network itself, which is frozen but for its adapters
    START = "start"  # where the run began: a frozen copy
    ELSEWHERE = "elsewhere"  # in a folder or another run's checkpoint: a frozen model


def reference_model(config: RunConfig) -> ReferenceModel | None:
    """Return the reference that the stage of a resolved `config` has; None where it has none."""
    learning = config.reinforcement
    rules = STAGES[config.stage]
    if rules.reinforces and learning is not None:
        return (learning.reference or ReferenceModel()) if learning.kl.coefficient else None
    if not rules.compares or config.preference is None:
        return None
    return config.preference.reference


def value_uri(config: RunConfig) -> str | None:
    """Return the value model's initial weights of a resolved `config`; None if it starts from the policy."""
    learning, reward = config.reinforcement, config.reward
    if learning is None or learning.value is None or learning.value.from_policy:
        return None
    return learning.value.uri or (None if reward is None else reward.uri)


def reference_kind(config: RunConfig) -> ReferenceKind:
    """Return the location of the reference's weights."""
    reference = reference_model(config)
    if reference is None:
        return ReferenceKind.NONE
    if reference.uri is not None:
        return ReferenceKind.ELSEWHERE
    return ReferenceKind.START if config.model.adapter is None else ReferenceKind.ADAPTERS_OFF


def holds_reference(config: RunConfig) -> bool:
    """Return whether ranks hold a second model while they train."""
    reference = reference_model(config)
    copied = reference_kind(config) in (ReferenceKind.START, ReferenceKind.ELSEWHERE)
    return copied and reference is not None and not reference.precomputed
