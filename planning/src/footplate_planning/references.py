"""Which model a trained one is kept near, and whether ranks hold another copy of it. Pure."""

from __future__ import annotations

from enum import StrEnum

from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.references import ReferenceModel
from footplate_contracts.v1alpha1.training import Stage


class ReferenceKind(StrEnum):
    """Where the weights of a reference are."""

    NONE = "none"
    ADAPTERS_OFF = "adaptersOff"  # in the trained network itself, which is frozen but for its adapters
    START = "start"  # where the run began: a frozen copy
    ELSEWHERE = "elsewhere"  # in a folder or another run's checkpoint: a frozen model


def reference_model(config: RunConfig) -> ReferenceModel | None:
    """The reference that the stage of a resolved `config` has; None where it has none."""
    learning = config.reinforcement
    if config.stage in (Stage.PPO, Stage.GRPO) and learning is not None:
        return (learning.reference or ReferenceModel()) if learning.kl.coefficient else None
    if config.stage is not Stage.DPO or config.preference is None:
        return None
    return config.preference.reference


def value_uri(config: RunConfig) -> str | None:
    """Where the value model of a resolved `config` begins; None where it begins as the policy does."""
    learning, reward = config.reinforcement, config.reward
    if learning is None or learning.value is None or learning.value.from_policy:
        return None
    return learning.value.uri or (None if reward is None else reward.uri)


def reference_kind(config: RunConfig) -> ReferenceKind:
    """Where the weights of that are."""
    reference = reference_model(config)
    if reference is None:
        return ReferenceKind.NONE
    if reference.uri is not None:
        return ReferenceKind.ELSEWHERE
    return ReferenceKind.START if config.model.adapter is None else ReferenceKind.ADAPTERS_OFF


def holds_reference(config: RunConfig) -> bool:
    """Whether ranks hold a second model while they train."""
    reference = reference_model(config)
    copied = reference_kind(config) in (ReferenceKind.START, ReferenceKind.ELSEWHERE)
    return copied and reference is not None and not reference.precomputed
