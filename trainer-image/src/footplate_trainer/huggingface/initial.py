"""`initFrom`: a run whose model comes from a folder of transformers or from a run's checkpoint.

The operator cannot read the folder, so a RunConfig has only the fields that the user stated, and is completed
before anything else reads it.
"""

from __future__ import annotations

from collections.abc import Sequence

from footplate_contracts.runconfig import RunConfig, resolve_network
from footplate_contracts.stages import STAGES
from footplate_contracts.v1alpha1.model import InitFrom, Model
from footplate_contracts.v1alpha1.references import LineageEntry, ReferenceField
from footplate_contracts.v1alpha1.training import Stage
from footplate_planning.config import model_shape
from footplate_planning.model_overrides import apply_overrides
from footplate_trainer.checkpoint import lookup
from footplate_trainer.checkpoint.lookup import find_pinned_checkpoint
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.errors import CheckpointError, UserMistake
from footplate_trainer.huggingface.folder import CONFIG_FILE, ModelFolder
from footplate_trainer.huggingface.model_config import model_of
from footplate_trainer.huggingface.sequence_classification import label_count


def folder_model(folder: ModelFolder) -> Model:
    """Return the shape of the model in `folder`; UserMistake when there is none, or it is unsupported."""
    config, place = folder.config(), folder.display_path(CONFIG_FILE)
    try:
        return model_of(config)
    except (AttributeError, TypeError) as error:  # a list where a text should be, and the like
        raise UserMistake(
            f"{place}: the type of a setting differs from what transformers writes: {error}"
        ) from error
    except ValueError as error:
        raise UserMistake(f"{place}: {error}") from error


def initial_checkpoint(
    asked: InitFrom, lineage: Sequence[LineageEntry] | None = None
) -> StepCheckpoint | None:
    """Return the run's checkpoint that `asked` means, the newest of its folder; None for any other folder.

    Not collective. Raises UserMistake where it is not the one of the `lineage`, CheckpointError for one in a
    format that this release does not read, and StorageError while its storage does not answer.
    """
    if (found := find_pinned_checkpoint(lineage, ReferenceField.INIT_FROM)) is not None:
        return found
    folder = ModelFolder(asked.place)
    if not folder.exists or folder.read(CONFIG_FILE) is not None:
        return None
    try:
        checkpoint = lookup.locate(asked.place)
    except CheckpointError:
        return None  # whoever reads config.json says what is missing
    checkpoint.manifest()
    return checkpoint


def initial_model(asked: InitFrom, stage: Stage, lineage: Sequence[LineageEntry] | None = None) -> Model:
    """Return the shape of the model that `asked` means.

    Raises as `initial_checkpoint` and `folder_model` do, and UserMistake for a head that `stage` cannot
    continue from.
    """
    folder, checkpoint = ModelFolder(asked.place), initial_checkpoint(asked, lineage)
    if checkpoint is None:
        _check_head(folder, label_count(folder.config()), stage)
        return folder_model(folder)
    config = checkpoint.config()
    _check_head(folder, model_shape(config).labels, stage)
    # Adapters are merged into its weights, and its embeddings are as large as they are.
    return config.model.model_copy(update={"adapter": None, "resize_token_embeddings": None})


def check_rules(folder: ModelFolder, model: Model) -> None:
    """Raise UserMistake when the `model` of `folder`, which the operator cannot read, breaks a CRD rule."""
    # Here, as it is slow to import, and a restart needs it not.
    from footplate_trainer.manifest.cel import violations

    broken = "; ".join(violation.message for violation in violations(model, "model"))
    if broken:
        raise UserMistake(f"{folder.display_path(CONFIG_FILE)}: {broken}")


def _check_head(folder: ModelFolder, labels: int, stage: Stage) -> None:
    """Raise UserMistake if `stage` cannot continue from a head of `labels` scores.

    0 labels mean a language model's head.
    """
    if labels and not STAGES[stage].has_score_head:
        raise folder.user_mistake(
            f"has a model that scores texts, but stage {stage} trains a generating model; use the folder "
            "that its training started from, or stage reward"
        )
    if labels > 1:
        raise folder.user_mistake(
            f"has a model of {labels} labels, but a reward model has 1; use another folder"
        )


def complete_config(config: RunConfig, written: RunConfig | None = None) -> RunConfig:
    """Return `config` with the model of its initFrom and the settings that follow; unchanged if it has none.

    `written` is the run's configuration in its own checkpoint: then the folder is not needed.

    Raises UserMistake that lists the stated fields with which the folder disagrees, or the reason why it
    cannot be read, and StorageError while its storage does not answer.
    """
    if config.init_from is None:
        return config
    folder = ModelFolder(config.init_from.place)
    found = (
        initial_model(config.init_from, config.stage, config.lineage) if written is None else written.model
    )
    try:
        model = apply_overrides(config.model, found)
    except ValueError as error:
        raise UserMistake(f"initFrom {folder.name} does not match the run: {error}") from error
    model, data = resolve_network(model, config.data, config.training)
    return config.model_copy(update={"model": model, "data": data})
