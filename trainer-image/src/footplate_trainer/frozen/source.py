"""Finds the model at a URI that a field of a run names: a folder of weights, or a run's checkpoint.

This module needs no torch: a plan counts such a model, and an unsuitable one is rejected before any rank
starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import JsonValue

from footplate_contracts.runconfig import RunConfig
from footplate_contracts.stages import STAGES
from footplate_contracts.v1alpha1.model import Architecture, Dropout, Model, PositionName
from footplate_contracts.v1alpha1.references import LineageEntry
from footplate_planning import compatibility
from footplate_planning.config import model_shape
from footplate_trainer.checkpoint import layout, lookup
from footplate_trainer.checkpoint.lookup import find_pinned_checkpoint
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.checkpoint.store import CheckpointSource
from footplate_trainer.checkpoint.training_state import flatten_key, key_differences
from footplate_trainer.data.tokenizer_json import parse_tokenizer
from footplate_trainer.errors import CheckpointError, UserMistake
from footplate_trainer.huggingface.folder import CONFIG_FILE, ModelFolder
from footplate_trainer.huggingface.initial import folder_model
from footplate_trainer.huggingface.sequence_classification import label_count

_WITHOUT_EFFECT: Final = (
    "contextLength",
    "resizeTokenEmbeddings",
    "dropout",
    "initialization",
)  # on what it says


def reference_field(config: RunConfig) -> str:
    """Return the spec's field that names the reference of a stage which has a reference."""
    return STAGES[config.stage].reference_field


def network_config(model: Model) -> dict[str, Any]:
    """Return the configuration that `model` computes from besides weights, such as a rotary base.

    Adapters' alpha is part of it, too.
    """
    return {name: said for name, said in model.to_json().items() if name not in _WITHOUT_EFFECT}


@dataclass(frozen=True)
class ModelSource:
    """A description of the model at a URI, in plain data, which rank 0 sends to the others."""

    uri: str
    field: str  # of the spec, which names it
    model: Model
    tokenizer: bytes | None  # tokenizer.json; None where there is none
    store: str = ""  # of a checkpoint: the folder around it
    directory: str = ""  # and its directory there; "" for a folder of weights
    labels: int = 0  # of its head, where that scores texts; 0 for one of tokens

    @property
    def checkpoint(self) -> StepCheckpoint | None:
        """The checkpoint of a run; None for a folder of weights."""
        return StepCheckpoint(CheckpointSource(self.store), self.directory) if self.directory else None

    @property
    def folder(self) -> ModelFolder:
        """The folder of weights, for a model that is no checkpoint."""
        return ModelFolder(self.uri, self.field)

    def user_mistake(self, told: str) -> UserMistake:
        """Return the error to raise for a model that does not suit the run."""
        return UserMistake(f"{self.field} {self.uri}: {told}")

    def changed_since(self, known: JsonValue) -> list[str]:
        """List differences of its network from the model `known`, JSON of this release or an earlier one."""
        before = network_config(Model.from_any_release(known))  # what was not known yet has its default
        return key_differences(flatten_key(before, "model"), flatten_key(network_config(self.model), "model"))

    def changed_mistake(self, changed: Sequence[str]) -> UserMistake:
        """Return the error to raise if its configuration has `changed` since a run that continues began."""
        return self.user_mistake(
            f"its configuration has changed since this run began: {'; '.join(changed)}; restore it, or start "
            "another run (another checkpoint.uri)"
        )


def find_model(
    uri: str, field: str, directory: str | None = None, lineage: Sequence[LineageEntry] | None = None
) -> ModelSource:
    """Find the model at `uri`: in a run's folder the newest checkpoint, or the one in its `directory`.

    Not collective. Raises UserMistake, which names `field`, if there is none, or not the one that another run
    produced, according to `lineage`; StorageError while the storage does not respond.
    """
    folder, named = ModelFolder(uri, field), find_pinned_checkpoint(lineage, field.removesuffix(".uri"))
    if named is None and folder.read(CONFIG_FILE) is not None:
        tokenizer, labels = folder.read(layout.TOKENIZER_FILE), label_count(folder.config())
        return ModelSource(uri, field, folder_model(folder), tokenizer, labels=labels)
    try:
        checkpoint = named or lookup.open_step_directory(uri)  # which a run's folder is not
        if checkpoint is None and directory:
            checkpoint = StepCheckpoint(CheckpointSource(uri), directory)
        checkpoint = checkpoint or lookup.locate(uri)
        config, tokenizer = checkpoint.config(), checkpoint.read_bytes(layout.TOKENIZER_FILE)
    except CheckpointError as error:
        raise folder.user_mistake(
            f"is neither a folder of weights, as it has no {CONFIG_FILE}, nor a run's checkpoints: {error}"
        ) from error
    store, directory, labels = checkpoint.store.uri, checkpoint.directory, model_shape(config).labels
    return ModelSource(uri, field, config.model, tokenizer, store, directory, labels)


def frozen_config(found: ModelSource, config: RunConfig, ranks: int) -> RunConfig:
    """Return `config` with the model of `found` in place of its own, and without a rollout.

    Raises UserMistake if the ranks cannot hold it, and if its head is not that of the stage: a head that
    scores texts for stage reward, a head of tokens for any other.
    """
    model, asked = found.model, config.model.context_length
    if model.architecture is not Architecture.DECODER:
        raise found.user_mistake(
            f"its model is an {model.architecture}, but stage {config.stage} needs a decoder"
        )
    _check_head(found, model_shape(config).labels)
    if model.context_length < asked:
        raise found.user_mistake(
            f"its model reads at most {model.context_length} tokens, but model.contextLength is {asked}; "
            "lower it, or use another model"
        )
    learned = model.position.name is PositionName.LEARNED
    length = model.context_length if learned and found.directory else asked
    # What is only computed drops nothing, and a value model is compared with itself as it was before.
    model = model.model_copy(
        update={"context_length": length, "resize_token_embeddings": False, "dropout": Dropout()}
    )
    frozen = config.model_copy(
        update={"model": model, "init_from": None, "resume_from": None, "rollout": None}
    )
    problems = compatibility.find_problems(frozen, ranks)
    if problems:
        raise found.user_mistake("its model does not match the layout of this run: " + "; ".join(problems))
    return frozen


def _check_head(found: ModelSource, wanted: int) -> None:
    if found.labels == wanted:
        return
    if wanted:
        raise found.user_mistake(
            f"its model returns {found.labels or 'no'} scores per text, but {wanted} is needed; use a run of "
            "stage reward, or a …ForSequenceClassification folder with one label"
        )
    raise found.user_mistake(
        "it is a model that scores texts, but a generating model is needed; use the folder that its training "
        "started from, or a run of another stage than reward"
    )


def check_tokenizer(found: ModelSource, ours: bytes, vocabulary: int) -> None:
    """Raise UserMistake if token ids mean something else to `found` than to data of `vocabulary` ids.

    `ours` is the tokenizer.json of the data. A folder without a tokenizer is checked by its vocabulary size
    only.
    """
    rows = found.model.vocabulary_size or 0
    if rows < vocabulary:
        raise found.user_mistake(
            f"its vocabulary has {rows} ids, but the data has {vocabulary}; use a model with the data's "
            "tokenizer"
        )
    if found.tokenizer is None or found.tokenizer == ours:
        return
    theirs, mine = _tokens(found, found.tokenizer), _tokens(found, ours)
    for number in range(vocabulary):
        if theirs.get(number) != mine.get(number):
            raise found.user_mistake(
                f"its tokenizer differs from the data's: token {number} is {theirs.get(number)!r}, but "
                f"{mine.get(number)!r} in the data; use a model with the data's tokenizer"
            )


def _tokens(found: ModelSource, tokenizer: bytes) -> Mapping[int, str]:
    try:
        vocabulary = parse_tokenizer(tokenizer).get_vocab(with_added_tokens=True)
    except ValueError as error:
        raise found.user_mistake(f"cannot read its tokenizer.json: {error}") from error
    return {number: token for token, number in vocabulary.items()}
