"""Identity of a rollout's records: digests of the inputs of its answers, rewards and scores. Pure.

A step number in a run does not identify weights: before its first checkpoint a run may begin again although
an earlier start has trained on, and after one it may train the same steps on other ranks, or with other
settings. So an answer is identified by the checksum of the weights that sampled it, and by the other inputs
of sampling; a reward by the function's definition, or by the reward model's weights and the tokens that it
reads after an answer; a reference's or value model's scores by its weights. All else may change without
losing anything that was sampled or paid for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue

from footplate_contracts.base import digest
from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.reward import RewardFunction
from footplate_planning.config import model_shape

DRAWN_BY: Final = "policy"  # among the weights of a rollout: whoever draws it

Weights = Mapping[str, str]
"""Checksums of what is trained, as it was when a rollout began: the policy's, and by the name of its scores
that of each model beside it."""

_OF_SAMPLING: Final = ("maxTokens", "stop", "sampling", "batchInvariant")
_WITHOUT_STOP: Final = "without the text that stopped it"  # is how a function sees an answer
_WITHOUT_EFFECT: Final = ("weight", "timeoutSeconds")  # of a function: on what it answers


def reward_name(name: str) -> str:
    """Return the name of a reward in `said`."""
    return f"rewards/{name}"


def scores_name(name: str) -> str:
    """Return the name of a model's scores in `said`."""
    return f"scores/{name}"


@dataclass(frozen=True)
class JournalKey:
    """The key of one rollout's journal."""

    answers: str  # digest of all that draws them, weights among it
    said: Mapping[str, str] = field(default_factory=dict)  # of what a reward or a score is, by name

    def differing(self, other: Mapping[str, str]) -> set[str]:
        """Return the names whose digests differ from those in `other`: rewards and scores to discard."""
        return {name for name in self.said.keys() | other.keys() if self.said.get(name) != other.get(name)}


@dataclass(frozen=True)
class JournalKeyBuilder:
    """The keys of all rollouts of a run, except for the weights that each begins with."""

    drawn: str  # digest of all that draws answers but for weights
    said: Mapping[str, str] = field(default_factory=dict)

    def build(self, weights: Weights) -> JournalKey:
        """Return the key of a rollout that begins with `weights`."""
        scores = {
            name: digest([checksum, self.said.get(name)])
            for model, checksum in weights.items()
            if model != DRAWN_BY and (name := scores_name(model))
        }
        return JournalKey(digest([self.drawn, weights[DRAWN_BY]]), {**self.said, **scores})


def sampling_digest(
    config: RunConfig, data: str, ids: int, ends: Collection[int], behind: Sequence[JsonValue] = ()
) -> str:
    """Return a digest of all inputs of sampling except weights.

    `data` is the digest of the prompts, which have ids below `ids`; `ends` are the tokens that end an answer.
    A reward model's tokens `behind` an answer leave it that much less room, and are in no digest of the
    prompts.
    """
    plain = config.to_json()
    has_model = config.reward is not None and config.reward.uri is not None
    return digest(
        {
            "model": plain["model"],
            "precision": config.training.precision,
            "rollout": {name: plain["rollout"].get(name) for name in _OF_SAMPLING},
            "seeds": [config.training.seed, config.data.seed],
            "judged": [*behind] if has_model else False,
            "data": data,
            **({"ids": ids} if ids < model_shape(config).vocabulary else {}),
            "ends": sorted(ends),
        }
    )


def reward_function_digests(config: RunConfig) -> dict[str, str]:
    """Return a digest of each reward function of `config`, by name."""
    assert config.rollout is not None
    functions = (config.reward and config.reward.functions) or ()
    longest, stops = config.rollout.max_tokens, bool(config.rollout.stop)
    return {reward_name(function.name): _defined(function, longest, stops) for function in functions}


def _defined(function: RewardFunction, longest: int, stops: bool) -> str:
    plain = function.to_json()
    said = {name: value for name, value in plain.items() if name not in _WITHOUT_EFFECT}
    if function.length is not None:
        return digest([said, longest])
    # An earlier release gave rewards of answers with the texts that stopped them.
    return digest([said, None, _WITHOUT_STOP] if stops else [said, None])


def value_position_digest(*, after_end: bool) -> str:
    """Return a digest of the positions that have values; `after_end` adds one after the answer."""
    return digest({"afterEnd": after_end})
