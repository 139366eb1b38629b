"""`initFrom`: a run whose model is a folder's.

The operator cannot see the folder, so a RunConfig comes here with what the user
stated, and becomes whole before anything else looks at it.
"""

from __future__ import annotations

import json
from pathlib import Path

from footplate_contracts.runconfig import RunConfig, resolve_network
from footplate_contracts.v1alpha1.model import Model
from footplate_trainer.errors import UserMistake
from footplate_trainer.huggingface.agreement import agreed
from footplate_trainer.huggingface.shape import model_of
from footplate_trainer.storage import local_path

CONFIG_FILE = "config.json"


def folder_model(folder: Path) -> Model:
    """The shape of the model in `folder`; UserMistake when there is none that we know."""
    place = folder / CONFIG_FILE
    try:
        config = json.loads(place.read_text())
        if not isinstance(config, dict):
            raise ValueError(f"it holds a {type(config).__name__}; an object of settings is right")
        return model_of(config)
    except OSError as error:
        raise UserMistake(f"{place} cannot be read: {error.strerror}") from error
    except (AttributeError, TypeError) as error:  # a list where a text should be, and the like
        raise UserMistake(
            f"{place}: a setting is of another type than transformers writes: {error}"
        ) from error
    except ValueError as error:
        raise UserMistake(f"{place}: {error}") from error


def check_rules(folder: Path, model: Model) -> None:
    """UserMistake when the `model` of `folder`, which no operator has seen, breaks a rule of the CRD."""
    # Here, as it is slow to import, and a restart needs it not.
    from footplate_trainer.manifest.cel import violations

    broken = "; ".join(violation.message for violation in violations(model, "model"))
    if broken:
        raise UserMistake(f"{folder / CONFIG_FILE}: {broken}")


def completed(config: RunConfig) -> RunConfig:
    """`config` with the model of its initFrom, and what follows from that; itself when it has none.

    Raises UserMistake that lists the stated fields with which the folder disagrees.
    """
    if config.init_from is None:
        return config
    folder = local_path(config.init_from.uri)
    found = folder_model(folder)
    try:
        model = agreed(config.model, found)
    except ValueError as error:
        raise UserMistake(f"initFrom {folder} does not agree with the run: {error}") from error
    model, data = resolve_network(model, config.data, config.training)
    return config.model_copy(update={"model": model, "data": data})
