"""Finds models that give a sequence one score, at URIs that a run names, with stored scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from footplate_contracts.runconfig import RunConfig
from footplate_contracts.stages import SCORING_STAGE, STAGES
from footplate_contracts.v1alpha1.model import Model, PositionName
from footplate_contracts.v1alpha1.references import LineageEntry
from footplate_contracts.v1alpha1.reward import RewardNormalization
from footplate_planning.references import value_uri
from footplate_trainer.checkpoint.training_state import HeldOutScores, Key, flatten_key, key_differences
from footplate_trainer.frozen.source import ModelSource, find_model, frozen_config
from footplate_trainer.huggingface.sequence_classification import label_count, read_held_out_scores

REWARD_FIELD: Final = "reward.uri"
VALUE_FIELD: Final = "reinforcement.value.uri"
# In a checkpoint's key: what beside its weights the reward model was with which a run began.
_NETWORK: Final = "reward.network"
HELD_OUT: Final = "reward.heldOut"


@dataclass(frozen=True)
class ScoringModelSource:
    """A model of one score, in plain data, and its scores of held-out answers if they are known."""

    found: ModelSource
    scores: HeldOutScores | None


def find_reward(config: RunConfig, directory: str | None = None) -> ScoringModelSource | None:
    """Find the reward model of `config`, in `directory` of a run's folder; None if it names none.

    Not collective; raises the errors of `find_scoring_model`.
    """
    uri = config.reward.uri if config.reward is not None else None
    return None if uri is None else find_scoring_model(uri, REWARD_FIELD, directory, config.lineage)


def find_value(config: RunConfig) -> ModelSource | None:
    """Find the model as which the value model of `config` begins; None: as the policy. As `find_reward`."""
    uri, learning = value_uri(config), config.reinforcement
    if uri is None:
        return None
    stated = learning is not None and learning.value is not None and learning.value.uri is not None
    return find_scoring_model(uri, VALUE_FIELD if stated else REWARD_FIELD, lineage=config.lineage).found


def find_scoring_model(
    uri: str, field: str, directory: str | None = None, lineage: Sequence[LineageEntry] | None = None
) -> ScoringModelSource:
    """Find a model as `find_model`; raise UserMistake unless it gives a text one score. Not collective."""
    found = find_model(uri, field, directory, lineage)
    checkpoint = found.checkpoint
    if checkpoint is not None:
        labels, scores = int(STAGES[checkpoint.config().stage].has_score_head), checkpoint.state().scores
    else:
        config = found.folder.config()
        labels, scores = label_count(config), read_held_out_scores(config)
    if labels != 1:
        raise found.user_mistake(
            f"its model returns {labels or 'no'} scores per text, but 1 is needed; use a run of stage "
            "reward, or a …ForSequenceClassification folder with one label"
        )
    return ScoringModelSource(found, scores)


def scoring_config(found: ModelSource, config: RunConfig, ranks: int) -> RunConfig:
    """Return `config` with the model of `found` and its head; raise UserMistake if ranks cannot hold it."""
    return frozen_config(found, config.model_copy(update={"stage": SCORING_STAGE}), ranks)


def trained_config(found: ModelSource, config: RunConfig, ranks: int) -> RunConfig:
    """Return a config as `scoring_config`, of a network that is trained whole from the weights of `found`.

    Its adapters are merged into those, and of a table of positions only the first rows are used, one a
    position.
    """
    plain = found.model.model_copy(update={"adapter": None})
    own = scoring_config(replace(found, model=plain), config, ranks)
    return _of_length(own, config.model.context_length)


def checkpointed_config(model: Model, config: RunConfig, ranks: int) -> RunConfig:
    """Return a config as `trained_config`, of a checkpoint's `model`: each tensor has its shape there."""
    known = ModelSource(config.checkpoint.uri, "checkpoint.uri", model, None, labels=1)
    own = scoring_config(known, config, ranks)
    return _of_length(own, model.context_length) if model.position.name is PositionName.LEARNED else own


def _of_length(config: RunConfig, length: int) -> RunConfig:
    model = config.model.model_copy(update={"context_length": length})
    return config.model_copy(update={"model": model})


def reward_model_key(found: ScoringModelSource, config: RunConfig) -> Key:
    """Return a checkpoint's key of the reward model besides its weights, for `check_unchanged`."""
    said: Key = {_NETWORK: found.found.model.to_json()}
    if _by_held_out(config) and found.scores is not None:
        said[HELD_OUT] = found.scores.to_json()
    return said


def check_unchanged(found: ScoringModelSource, config: RunConfig, known: Key) -> None:
    """Raise UserMistake if rewards would have other inputs than those before a checkpoint.

    `known` is that checkpoint's key; a key of an earlier release has none of them.
    """
    network, scores = known.get(_NETWORK), known.get(HELD_OUT)
    changed = [] if network is None else found.found.changed_since(network)
    if scores is not None and found.scores is not None and _by_held_out(config):
        changed += key_differences(
            flatten_key(scores, "heldOut"), flatten_key(found.scores.to_json(), "heldOut")
        )
    if changed:
        raise found.found.changed_mistake(changed)


def _by_held_out(config: RunConfig) -> bool:
    return config.reward is not None and config.reward.normalization is RewardNormalization.HELD_OUT


def check_scores(found: ScoringModelSource, config: RunConfig) -> None:
    """Raise UserMistake if held-out scores are to normalise, and are missing or have no deviation."""
    if not _by_held_out(config):
        return
    others = "running or none" if STAGES[config.stage].trains else "none"
    remedy = f"set validation in the run of stage reward, or set reward.normalization to {others}"
    if found.scores is None:
        raise found.found.user_mistake(f"it has no held-out scores; {remedy}")
    if not found.scores.deviation > 0:
        raise found.found.user_mistake(
            f"its held-out scores have deviation {found.scores.deviation:g}; {remedy}"
        )
