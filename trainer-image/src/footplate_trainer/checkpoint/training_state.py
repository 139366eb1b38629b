"""state.json of a checkpoint: the training position, and the key that determines the bits of the next steps.

Everything that a step draws or picks is a pure function of (seeds, step): initial weights, sample order,
dropout. So the position is a few numbers, and no generator state is stored. The determinism key names
everything else that decides the bits of a step; two runs with equal keys that set `training.deterministic`
are equal bit by bit, and a resume under another key reports the parts that differ. Also stored: the metric
rows that may be lost with the process that has them (ADR-0023).
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, JsonValue, ValidationError

from footplate_contracts.base import WireMessage
from footplate_contracts.names import Env
from footplate_contracts.release import build_version as release_of
from footplate_contracts.reports import GenerationRow
from footplate_contracts.runconfig import RunConfig
from footplate_contracts.stages import STAGES, StageRules
from footplate_contracts.v1alpha1.model import Model, PositionName

Key = dict[str, JsonValue]
"""Determinism key: dotted name -> value."""

_SECTIONS: Final = ("stage", "model", "data", "training", "parallelism")
_OF_STAGES: Final = ("preference", "reward", "reinforcement", "rollout")
# Where the data lies and what is written to the log changes no bit.
# `tokens` only say how many `steps` there are. Another network of a model that is computed is refused.
_WITHOUT_EFFECT: Final = re.compile(
    r"(data|preference|reward|reinforcement)\.(.+\.)?uri|training\.(logEverySteps|tokens)"
    r"|(reference|reward)\.network|reward\.heldOut"
)
# In earlier releases learned positions ran on through a window: what was computed then is not what is now.
_PLACES: Final[Key] = {"places": "document"}
# Which sequence a conversation lies in depends on how bins are filled: another way would get another number.
_BINS: Final[Key] = {"bins": 1}
_LIBRARIES: Final = ("torch", "numpy")
_DISTRIBUTION: Final = "footplate-trainer"


def _readable(rows: object) -> list[GenerationRow]:
    """Return the `rows` that this release can read: an unreadable metric row must not prevent a resume."""
    kept = []
    for row in rows if isinstance(rows, list) else []:
        with suppress(ValidationError):
            kept.append(GenerationRow.model_validate(row))
    return kept


class RunningScores(WireMessage):
    """Running statistics of a reward model's scores over all rollouts so far."""

    count: int = 0
    mean: float = 0.0
    squares: float = Field(default=0.0, description="sum of squared distances from the mean")


class RolloutPosition(WireMessage):
    """Start position of the rollout that the next step is trained on."""

    step: int = Field(description="optimizer steps done when the rollout begins")
    prompt: int = Field(description="position of its first prompt in the endless order of prompts")
    coefficient: float = Field(default=0.0, description="KL coefficient of the loss or reward")
    scores: RunningScores | None = Field(None, description="running score statistics at its start")
    weights: dict[str, str] | None = Field(
        None, description="checksums of the trained weights at the rollout's start; absent before it"
    )


class HeldOutScores(WireMessage):
    """Statistics of a reward model's scores of held-out answers, for normalization in later stages."""

    mean: float
    deviation: float = Field(description="unbiased")


class TrainingState(WireMessage):
    """Content of state.json: position, determinism key, and metric rows that may not be stored yet."""

    step: int
    tokens: int
    samples: int
    updates: int  # that the optimizer's moments have seen; more than `step` after a warm start
    parameters: int
    world_size: int
    key: Key
    scores: HeldOutScores | None = Field(None, description="held-out scores of these weights, if measured")
    rows: Annotated[list[GenerationRow], BeforeValidator(_readable)] = Field(
        default_factory=list,
        description="history rows not known to be stored; the next attempt sends them again",
    )
    rollout: RolloutPosition | None = None  # of a stage that has any
    value: Model | None = Field(None, description="network of the value model, in a stage that has one")


@dataclass(frozen=True)
class StateBuilder:
    """Builder of a step's TrainingState; its fields do not change within a generation."""

    parameters: int
    world_size: int
    global_batch_size: int  # sequences
    earlier_updates: int  # of the run that this one was warm-started from
    key: Key
    value: Model | None = None

    def with_steps(self, steps: int) -> StateBuilder:
        """Return the builder for a run that from now on ends with step `steps`."""
        return replace(self, key={**self.key, "training.steps": steps})

    def build(
        self,
        step: int,
        tokens: int,
        rows: Sequence[GenerationRow] = (),
        rollout: RolloutPosition | None = None,
    ) -> TrainingState:
        """Build the state after `step` and `tokens` valid tokens, with `rows` that may not be stored yet."""
        return TrainingState(
            step=step,
            tokens=tokens,
            samples=step * self.global_batch_size,
            updates=self.earlier_updates + step,
            parameters=self.parameters,
            world_size=self.world_size,
            key=self.key,
            rows=list(rows),
            rollout=rollout,
            value=self.value,
        )


def determinism_key(
    config: RunConfig,
    *,
    world_size: int,
    device: str,
    threads: int,
    data: str,
    revision: str,
    values: str | None = None,
    reference: Key | None = None,
    rules: StageRules | None = None,
) -> Key:
    """Build the key of what decides a step's bits: hyper-parameters, data, layout, software and device.

    `data` is a digest of the token shards, `values` a digest of the numbers stored with them, if any;
    `device` names type and model, and `reference` has the other inputs: the weights of a reference and of a
    reward model, and what this one reads after an answer. `rules` default to those of the
    config's stage.
    """
    rules = rules or STAGES[config.stage]
    plain = config.to_json()
    key: Key = {}
    for section in (*_SECTIONS, *(section for section in _OF_STAGES if plain.get(section) is not None)):
        key |= flatten_key(plain[section], section)
    return {name: value for name, value in key.items() if not _WITHOUT_EFFECT.fullmatch(name)} | {
        **(_PLACES if _places_begin_anew(config) else {}),
        **(_BINS if rules.uses_conversations and config.data.packing.enabled else {}),
        "data.shards": data,
        **(reference or {}),
        **({} if values is None else {"data.values": values}),
        "worldSize": world_size,
        "device": device,
        "threads": threads,
        "versions.python": platform.python_version(),
        **{f"versions.{library}": metadata.version(library) for library in _LIBRARIES},
        "revision": revision,
    }


def _places_begin_anew(config: RunConfig) -> bool:
    """Return whether learned positions restart at each document of a packed window."""
    learned, packing = config.model.position.name is PositionName.LEARNED, config.data.packing
    return learned and packing.enabled and not packing.cross_document_attention


def code_revision(environment: Mapping[str, str]) -> str:
    """Return the revision that the image was built from, or else the version of this package."""
    return environment.get(Env.REVISION) or metadata.version(_DISTRIBUTION)


def release_name(environment: Mapping[str, str] = os.environ) -> str:
    """Return this build, as checkpoints name their writer: 0.3.0, or 0.3.0 (its revision)."""
    return release_of(_DISTRIBUTION, environment)


def key_differences(before: Key, now: Key) -> list[str]:
    """List, as one text each, the parts of the key that differ, with both values."""
    names = sorted(name for name in before.keys() | now.keys() if not _WITHOUT_EFFECT.fullmatch(name))
    return [
        f"{name} was {_shown(before, name)}, is {_shown(now, name)}"
        for name in names
        if before.get(name) != now.get(name)
    ]


def _shown(key: Key, name: str) -> str:
    return str(key.get(name, "absent"))


def flatten_key(value: JsonValue, path: str) -> Key:
    """Return the leaves of `value` by dotted names below `path`; list entries that have names, by those."""
    if (
        isinstance(value, list)
        and value
        and all(isinstance(entry, dict) and "name" in entry for entry in value)
    ):
        value = {str(entry["name"]): entry for entry in value if isinstance(entry, dict)}
    if not isinstance(value, dict):
        return {path: value}
    leaves: Key = {}
    for name, inner in value.items():
        leaves |= flatten_key(inner, f"{path}.{name}")
    return leaves
